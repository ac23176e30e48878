#!/bin/sh
# What the tests need beside Python packages: installs what is missing where we may, else says in one line what to install.
set -eu
missing=""
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need redis-server redis-server
need java default-jre-headless
need mvn maven
need named bind9
need prometheus-redis-exporter prometheus-redis-exporter
ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || missing="$missing faketime"
{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null 2>&1 || missing="$missing chromium"
[ -z "$missing" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "the tests need, and this machine lacks:$missing"; exit 1
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo -n"
    $as_root true 2>/dev/null || { echo "the tests need more packages: sudo apt-get install$missing"; exit 1; }
fi
echo "installing$missing"
# Services that these packages bring must not start: only the programs are wanted.
policy=/usr/sbin/policy-rc.d
made=""
[ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null; $as_root chmod +x "$policy"; made=yes; }
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
[ -z "$made" ] || $as_root rm -f "$policy"
