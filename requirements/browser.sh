#!/usr/bin/env bash
# Put a Chromium and the fonts of the pages' languages into a directory, without root. The Chromium of the machine
# is used where it has one; else npm brings one, for x86-64. With the fonts, `fonts.conf` tells fontconfig where
# they are, and that there are no others, so that pictures are the same on each machine.
set -euo pipefail
mkdir -p "$1"
into=$(realpath "$1")

version=153.0.0
sha512=8e2196a92bcf31dbb8f8ff538a562a011ef21063c41c8371fa50af13f36a34efc41d8cc5ff1d615222394fa8a8548b7b744cbb9fcf1bcb24f4be4f9d9ec810c0

unpack_from_npm() {
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  (cd "$work" && npm pack --silent --ignore-scripts "@sparticuz/chromium@$version" > /dev/null)
  archive=$(echo "$work"/*.tgz)
  echo "$sha512  $archive" | sha512sum --check --quiet
  from_archive() {
    tar -xzOf "$archive" "package/bin/$1" | node -e 'require("stream").pipeline(process.stdin,
      require("zlib").createBrotliDecompress(), process.stdout, (error) => { if (error) throw error; })'
  }
  from_archive chromium.br > "$work/chromium"
  chmod +x "$work/chromium"
  # NSS, which few servers have, is in the package too.
  if ldd "$work/chromium" | grep -q 'not found'; then
    mkdir -p "$into/libraries"
    from_archive al2023.tar.br | tar -xf - -C "$into/libraries" --strip-components=1
  fi
  mv "$work/chromium" "$into/chromium-from-npm"
  cat > "$into/chromium" <<END
#!/usr/bin/env bash
export LD_LIBRARY_PATH="$into/libraries"
exec "$into/chromium-from-npm" "\$@"
END
  chmod +x "$into/chromium"
}

if installed=$(command -v chromium || command -v chromium-browser || command -v google-chrome); then
  ln -sf "$installed" "$into/chromium"
elif [ "$(uname -sm)" = "Linux x86_64" ] && command -v npm >/dev/null; then
  unpack_from_npm
else
  echo "*** This machine has neither Chromium nor npm: tests in a browser are skipped."
fi

if command -v apt-get >/dev/null; then
  requirements/unpack_debian.sh "$into/package" fonts-liberation fonts-noto-cjk
  cat > "$into/fonts.conf" <<END
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
  <dir>$into/package/usr/share/fonts</dir>
  <cachedir>$into/cache</cachedir>
  <alias binding="strong"><family>sans-serif</family><prefer><family>Liberation Sans</family></prefer></alias>
  <alias binding="strong"><family>system-ui</family><prefer><family>Liberation Sans</family></prefer></alias>
  <alias binding="strong"><family>monospace</family><prefer><family>Liberation Mono</family></prefer></alias>
</fontconfig>
END
elif [ -z "$(fc-list :lang=ja 2>/dev/null)" ]; then
  echo "*** This machine has no Japanese font: the test of clipped text will fail. Install Noto Sans CJK."
fi
