#!/usr/bin/env bash
# Brings a checkout to where it can be built, tested and demonstrated: the npm packages of package-lock.json and, without
# --packages-only, the servers that the tests run (PostgreSQL, Patroni, etcd, and the poolers that pgsteer is compared
# with). Does nothing, quickly, when everything is there. System packages are installed on Debian and Ubuntu as root only;
# elsewhere it says what is missing. No service is started or left to start by itself.
set -euo pipefail
cd "$(dirname "$0")/.."

packages_only=false
case "${1:-}" in
  "") ;;
  --packages-only) packages_only=true ;;
  *)
    echo "usage: scripts/setup.sh [--packages-only]" >&2
    exit 2
    ;;
esac

# Two at once would take node_modules away from each other.
if command -v flock >/dev/null; then
  exec 9<scripts/setup.sh
  flock 9
fi

# What has to be there | the Debian package that has it. A path is looked for as it is, a name in the usual places.
servers=(
  "/usr/lib/postgresql/15/bin/postgres|postgresql-15"
  "/usr/lib/postgresql/15/bin/pgbench|postgresql-15"
  "/usr/lib/postgresql/15/bin/psql|postgresql-client-15"
  "etcd|etcd-server"
  "etcdctl|etcd-client"
  "patroni|patroni"
  "haproxy|haproxy"
  "pgbouncer|pgbouncer"
  "keepalived|keepalived"
  "openssl|openssl"
  "ip|iproute2"
)

install_npm_packages() {
  if [[ -e node_modules/.package-lock.json && ! package-lock.json -nt node_modules/.package-lock.json ]]; then return; fi
  if ! command -v npm >/dev/null; then
    echo "npm is missing: install Node.js 22.22 or later with npm (https://nodejs.org/en/download)" >&2
    exit 1
  fi
  echo "installing npm packages"
  # The npm at hand may come with an older Node.js than `engines` asks for; the runtime itself is one of the packages, so
  # its warnings are of no interest. Errors are still printed.
  npm ci --loglevel=error --no-audit --no-fund
}

check_runtime() {
  if [[ ! -x node_modules/.bin/node ]]; then
    echo "node_modules/.bin/node is missing: does npm run install scripts (npm config get ignore-scripts)?" >&2
    exit 1
  fi
}

has() {
  case "$1" in
    /*) [[ -x "$1" ]] ;;
    *) PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" command -v "$1" >/dev/null ;;
  esac
}

# Fills `missing` (what) and `packages` (from where).
look_for_servers() {
  missing=()
  packages=()
  local entry
  for entry in "${servers[@]}"; do
    if has "${entry%%|*}"; then continue; fi
    missing+=("${entry%%|*}")
    if [[ " ${packages[*]} " != *" ${entry##*|} "* ]]; then packages+=("${entry##*|}"); fi
  done
  # Debian's Patroni reaches etcd through python3-etcd, which is only a recommendation of its package.
  if [[ -x /usr/bin/apt-get && ! -d /usr/lib/python3/dist-packages/etcd ]]; then
    if [[ " ${packages[*]} " == *" patroni "* || -d /usr/lib/python3/dist-packages/patroni ]]; then
      missing+=("python3 module etcd")
      packages+=("python3-etcd")
    fi
  fi
}

explain_missing() {
  echo "these programs, which the tests and the demonstration run, are missing: ${missing[*]}" >&2
  if [[ -x /usr/bin/apt-get ]]; then
    echo "as root: apt-get update && apt-get install --no-install-recommends ${packages[*]}" >&2
    echo "(where the distribution has no PostgreSQL 15: https://wiki.postgresql.org/wiki/Apt)" >&2
  else
    echo "get them from your distribution or from https://www.postgresql.org/download/, https://github.com/etcd-io/etcd/releases," >&2
    echo "https://patroni.readthedocs.io/en/latest/installation.html, https://www.haproxy.org/, https://www.pgbouncer.org/install.html," >&2
    echo "https://www.keepalived.org/; PostgreSQL 15 is expected in /usr/lib/postgresql/15/bin" >&2
  fi
}

policy=/usr/sbin/policy-rc.d
policy_saved=/usr/sbin/policy-rc.d.before-pgsteer-setup
no_cluster=/etc/postgresql-common/createcluster.d/pgsteer-setup.conf

forbid_services() {
  trap allow_services EXIT
  # One that a run left behind which was killed is still the original.
  if [[ -e "$policy" && ! -e "$policy_saved" ]]; then mv "$policy" "$policy_saved"; fi
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  mkdir -p "${no_cluster%/*}"
  echo "create_main_cluster = false" >"$no_cluster"
}

allow_services() {
  rm -f "$policy" "$no_cluster"
  if [[ -e "$policy_saved" ]]; then mv "$policy_saved" "$policy"; fi
}

install_servers() {
  echo "installing system packages: ${packages[*]}"
  export DEBIAN_FRONTEND=noninteractive
  forbid_services
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${packages[@]}"
  allow_services
  trap - EXIT
  # The tests start their own servers: none of those just installed shall start with the machine.
  if [[ -d /run/systemd/system ]]; then
    local unit
    for unit in etcd patroni haproxy pgbouncer keepalived; do
      if [[ " ${packages[*]} " == *" $unit"* ]]; then systemctl disable --quiet "$unit" 2>/dev/null || true; fi
    done
  fi
}

install_npm_packages
check_runtime
if $packages_only; then exit 0; fi
look_for_servers
if ((${#missing[@]} == 0)); then exit 0; fi
if [[ $(id -u) != 0 || ! -x /usr/bin/apt-get ]]; then
  explain_missing
  exit 1
fi
install_servers
look_for_servers
if ((${#missing[@]} > 0)); then
  explain_missing
  exit 1
fi
