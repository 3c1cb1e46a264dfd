{{- define "stepup.name" -}}
{{- $chart := .Values.nameOverride | default .Chart.Name }}
{{- $release := ternary .Release.Name (printf "%s-%s" .Release.Name $chart) (contains $chart .Release.Name) }}
{{- .Values.fullnameOverride | default $release | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "stepup.selector" -}}
app.kubernetes.io/name: {{ .Values.nameOverride | default .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "stepup.labels" -}}
{{ include "stepup.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "stepup.image" -}}
{{- $tagged := printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- with .Values.image.digest }}{{ printf "%s@%s" $tagged . }}{{ else }}{{ $tagged }}{{ end }}
{{- end }}

{{/* What a pod may do: nothing but serve. */}}
{{- define "stepup.podSecurity" -}}
runAsNonRoot: true
{{- range $name := list "runAsUser" "runAsGroup" "fsGroup" }}
{{- with get ($.Values.podSecurityContext | default dict) $name }}
{{ $name }}: {{ int64 . }}
{{- end }}
{{- end }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "stepup.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where the database is; server and migration come to it with a role of their own. */}}
{{- define "stepup.databaseEnv" -}}
{{- if .Values.database.ca.configMapName }}
- name: PGSSLROOTCERT
  value: /etc/stepup/database-ca/ca.crt
{{- end }}
{{- end }}

{{/* The URL of a role's Secret; or one without a password, which the driver takes from PGPASSWORD. */}}
{{- define "stepup.databaseUrl" -}}
{{- $database := .root.Values.database }}
{{- if $database.host }}
- name: STEPUP_STORAGE__DATABASE_URL
  value: {{ printf "postgresql+asyncpg://%s@%s:%v/%s?ssl=%s" .role.user $database.host $database.port $database.name $database.ssl | quote }}
- name: PGPASSWORD
{{- else }}
- name: STEPUP_STORAGE__DATABASE_URL
{{- end }}
  valueFrom: {secretKeyRef: {name: {{ .role.secretName }}, key: {{ .role.key }}}}
{{- end }}

{{/* What operators add to a container's environment. */}}
{{- define "stepup.extraEnv" -}}
{{- range . }}
{{- if hasPrefix "STEPUP_" (upper .name) }}
{{- fail (printf "extraEnv: %s: settings belong in config, and URLs in the Secrets" .name) }}
{{- end }}
{{- end }}
{{- with . }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Values that only make sense together. */}}
{{- define "stepup.demands" -}}
{{- with .Values }}
{{- if and .database.host .networkPolicy.enabled (ne (int .database.port) (int .networkPolicy.database.port)) }}
{{- fail (printf "networkPolicy.database.port: %v is not database.port, which is %v" .networkPolicy.database.port .database.port) }}
{{- end }}
{{- if and .prometheusRule.enabled (not (contains "stepup" (include "stepup.name" $))) }}
{{- fail (printf "fullnameOverride, nameOverride: the alerts of prometheusRule find servers by \"stepup\" in their name, and %s has none" (include "stepup.name" $)) }}
{{- end }}
{{- if .autoscaling.enabled }}
{{- $measured := dict "resources" .resources }}
{{- if eq .decisionLog.to "sidecar" }}{{ $_ := set $measured "decisionLog.resources" .decisionLog.resources }}{{ end }}
{{- range $name, $resources := $measured }}
{{- if has (toString ((($resources).requests).cpu)) (list "" "0" "0m" "<nil>") }}
{{- fail (printf "%s.requests.cpu: autoscaling needs it: its target is a percentage of what all containers request" $name) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "stepup.databaseMounts" -}}
{{- if .Values.database.ca.configMapName }}
- {name: database-ca, mountPath: /etc/stepup/database-ca, readOnly: true}
{{- end }}
{{- end }}

{{- define "stepup.databaseVolumes" -}}
{{- with .Values.database.ca }}{{ if .configMapName }}
- name: database-ca
  configMap:
    name: {{ .configMapName }}
    items: [{key: {{ .key }}, path: ca.crt}]
{{- end }}{{ end }}
{{- end }}

{{- define "stepup.webProbe" -}}
{path: {{ .path }}, port: http, scheme: {{ ternary "HTTPS" "HTTP" (not (empty .root.Values.web.tls.secretName)) }}}
{{- end }}

{{/* The configuration of the web process, and what only the chart can know. */}}
{{- define "stepup.webToml" -}}
{{- $config := deepCopy .Values.web.config }}
{{- if not $config.public_url }}{{ fail "web.config.public_url: the origin that browsers see, https://..." }}{{ end }}
{{- if not (or .Values.web.tls.secretName $config.trusted_proxies) }}
{{- fail "web.tls.secretName, web.config.trusted_proxies: browsers need TLS, here or at a proxy" }}
{{- end }}
{{- $_ := set $config "listen" (printf "%s:8080" .Values.bindAddress) }}
{{- $_ := set $config "metrics" (dict "listen" (printf "%s:9464" .Values.bindAddress)) }}
{{- $target := .Values.web.core.target | default (printf "%s.%s.svc:%v" (include "stepup.name" .) .Release.Namespace .Values.service.port) }}
{{- $core := dict "target" $target "certificate" "/etc/stepup/core/tls.crt" "private_key" "/etc/stepup/core/tls.key" "authorities" "/etc/stepup/core/ca.crt" }}
{{- if .Values.web.core.tokenAudience }}{{ $_ := set $core "token_file" "/var/run/secrets/stepup/token" }}{{ end }}
{{- $_ := set $config "core" $core }}
{{- if .Values.web.tls.secretName }}
{{- $_ := set $config "tls" (dict "certificate" "/etc/stepup/tls/tls.crt" "key" "/etc/stepup/tls/tls.key") }}
{{- end }}
{{- toToml $config }}
{{- end }}

{{/* The values' configuration, and what only the chart can know. */}}
{{- define "stepup.toml" -}}
{{- $config := deepCopy .Values.config }}
{{- if not (or .Values.tls.clientCa.enabled $config.token_issuers) }}
{{- fail "callers must have credentials: enable tls.clientCa, or name config.token_issuers" }}
{{- end }}
{{- $listen := dict "listen" (printf "%s:50051" .Values.bindAddress) }}
{{- $_ := set $config "server" (merge $listen ($config.server | default dict)) }}
{{- $decisions := ternary "/var/log/stepup/decisions" "-" (eq .Values.decisionLog.to "sidecar") }}
{{- $_ := set $config "log" (merge (dict "format" "json" "decisions" $decisions) ($config.log | default dict)) }}
{{- $_ := set $config "metrics" (dict "listen" (printf "%s:9464" .Values.bindAddress)) }}
{{- $_ := set $config "probes" (dict "listen" (printf "%s:9465" .Values.bindAddress)) }}
{{- $storage := dict "data_dir" "/var/lib/stepup" "keys_file" "/etc/stepup/keys/keys.json" "keys_group_readable" true }}
{{- $_ := set $config "storage" (merge $storage ($config.storage | default dict)) }}
{{- $tls := dict "certificate" "/etc/stepup/tls/tls.crt" "key" "/etc/stepup/tls/tls.key" }}
{{- if .Values.tls.clientCa.enabled }}{{ $_ := set $tls "client_ca" "/etc/stepup/client-ca/ca.crt" }}{{ end }}
{{- $_ := set $config "tls" $tls }}
{{- if .Values.web.enabled }}
{{- $_ := set $config "portal" (merge (dict "public_url" .Values.web.config.public_url) ($config.portal | default dict)) }}
{{- end }}
{{- toToml $config }}
{{- end }}
