{{- define "stepup.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 52 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "stepup.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
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
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
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

{{- define "stepup.databaseUrl" -}}
- name: STEPUP_STORAGE__DATABASE_URL
  valueFrom: {secretKeyRef: {name: {{ .secretName }}, key: {{ .key }}}}
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
{{- $_ := set $config "storage" (dict "data_dir" "/var/lib/stepup" "keys_file" "/etc/stepup/keys/keys.json" "keys_group_readable" true) }}
{{- $tls := dict "certificate" "/etc/stepup/tls/tls.crt" "key" "/etc/stepup/tls/tls.key" }}
{{- if .Values.tls.clientCa.enabled }}{{ $_ := set $tls "client_ca" "/etc/stepup/client-ca/ca.crt" }}{{ end }}
{{- $_ := set $config "tls" $tls }}
{{- toToml $config }}
{{- end }}
