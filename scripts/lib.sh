# Shared by the scripts beside it: source it, do not run it.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache="$root/.cache"
# shellcheck disable=SC2034 # read by those who source this
target="${CARGO_TARGET_DIR:-$root/target}"

# What Cargo.toml says.
rust_wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$root/Cargo.toml")

# What Vite 8 runs on: 20.19 and later of 20, or 22.12 and later.
node_wanted='20.19 or later of 20, or 22.12 or later'
# Fetched from the npm registry where the distribution's Node.js is too old (Debian 12 has 18).
node_fetched_version=22.23.3
npm_fetched_version=11.19.1

say() { printf '\033[1m==>\033[0m %s\n' "$*"; }

die() {
  printf '\033[1;31merror:\033[0m %s\n' "$*" >&2
  exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif has sudo; then
    sudo "$@"
  else
    die "need root to run: $* — run it yourself, or install sudo"
  fi
}

apt_updated=
# Refreshes the package lists, once.
apt_refresh() {
  has apt-get || die "this system has no apt-get; install these by hand: $*"
  [ -z "$apt_updated" ] || return 0
  say "Refreshing the package lists"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq ||
    printf 'warning: some package lists could not be refreshed; going on with what there is\n' >&2
  apt_updated=1
}

# apt_install PACKAGE…: installs Debian packages.
apt_install() {
  apt_refresh "$@"
  say "Installing $*"
  # What an interrupted installation left half done keeps everything else from being installed.
  [ -z "$(dpkg --audit 2>/dev/null)" ] || as_root dpkg --configure -a >/dev/null ||
    die 'an earlier installation was interrupted, and "dpkg --configure -a" could not complete it'
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
    die "apt-get could not install: $*"
}

# need COMMAND PACKAGE…: installs the packages unless the command is there.
need() {
  local command=$1
  shift
  has "$command" || apt_install "$@"
  has "$command" || die "$command is still missing after installing: $*"
}

# Debian's promtool, unpacked into .cache: its package would start a server.
ensure_promtool() {
  local place="$cache/prometheus"
  [ ! -x "$place/usr/bin/promtool" ] || return 0
  has promtool && return
  apt_refresh prometheus
  say "Fetching promtool into .cache"
  mkdir -p "$place"
  (cd "$place" && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb . && rm -f prometheus_*.deb)
}

node_is_good() {
  has node && has npm && node -e '
    const [major, minor] = process.versions.node.split(".").map(Number);
    process.exit((major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22 ? 0 : 1);
  '
}

# Puts a Node.js that Vite runs on into PATH.
ensure_node() {
  local fetched="$cache/node/node_modules" machine
  case $(uname -m) in
    x86_64) machine=x64 ;;
    aarch64) machine=arm64 ;;
    *) machine= ;;
  esac
  if [ -n "$machine" ] && [ -x "$fetched/node-linux-$machine/bin/node" ]; then
    PATH="$fetched/node-linux-$machine/bin:$fetched/.bin:$PATH"
  fi
  node_is_good && return
  if ! has node || ! has npm; then
    apt_install nodejs
    has npm || apt_install npm
    hash -r
  fi
  node_is_good && return
  [ -n "$machine" ] ||
    die "Node.js $(node -v) is too old for the client's build; install $node_wanted"
  say "Node.js $(node -v) is too old for the client's build ($node_wanted);" \
    "fetching $node_fetched_version into .cache"
  mkdir -p "$cache/node"
  npm install --prefix "$cache/node" --no-save --no-package-lock --no-audit --no-fund --silent \
    "node-linux-$machine@$node_fetched_version" "npm@$npm_fetched_version" ||
    die "npm could not fetch Node.js $node_fetched_version; install $node_wanted"
  PATH="$fetched/node-linux-$machine/bin:$fetched/.bin:$PATH"
  hash -r
  node_is_good || die "the fetched Node.js does not run here; install $node_wanted"
}

# The compiler that Cargo.toml asks for, or a later one.
rust_is_good() {
  local have
  has cargo && has rustc || return 1
  have=$(rustc --version | cut -d' ' -f2)
  printf '%s\n' "$rust_wanted" "$have" | sort --check=quiet --version-sort
}

ensure_rust() {
  has cargo || [ ! -x "$HOME/.cargo/bin/cargo" ] || PATH="$HOME/.cargo/bin:$PATH"
  # Debian keeps a recent compiler for its browsers, where that of the distribution is old.
  if ! has cargo; then
    apt_refresh rustc cargo
    if [ -n "$(apt-cache madison rustc-web 2>/dev/null)" ]; then
      apt_install rustc-web cargo-web rustfmt-web rust-web-clippy
    else
      apt_install rustc cargo rustfmt rust-clippy
    fi
    hash -r
  fi
  rust_is_good ||
    die "$(rustc --version 2>&1 | head -n 1) is no Rust $rust_wanted or later; install one: on Debian 12" \
      "and 13 rustc-web and cargo-web (with security updates), elsewhere https://rustup.rs"
  # The cryptography library is compiled from C.
  need cc build-essential
}

# Installs the client's packages as locked, unless that was done.
client_packages() {
  local stamp="$root/client/node_modules/.opencall-lock" lock
  lock=$(sha256sum "$root/client/package-lock.json" | cut -d' ' -f1)
  [ "$(cat "$stamp" 2>/dev/null)" = "$lock" ] && return
  say "Installing the client's packages"
  (cd "$root/client" && npm ci --no-audit --no-fund --loglevel=error --include=dev) || return 1
  printf '%s\n' "$lock" >"$stamp"
}

# Builds client/dist, unless it is newer than everything it is made of.
client_build() {
  local dist="$root/client/dist/index.html" newer
  if [ -f "$dist" ]; then
    newer=$(cd "$root/client" &&
      find src public index.html admin.html package.json package-lock.json vite.config.ts -newer "$dist" -print -quit)
    [ -z "$newer" ] && return
  fi
  say "Building the meeting page"
  (cd "$root/client" && npm run --silent build -- --logLevel warn)
}

# The server and its page, as they are released.
build_all() {
  ensure_rust
  ensure_node
  client_packages || die "npm ci failed"
  client_build || die "the meeting page could not be built"
  say "Building the server (the first time takes some minutes)"
  (cd "$root" && cargo build --release --quiet --package opencall-signaling --bin opencall-sfu) ||
    die "the server could not be built"
}

# first_parent PATH: the nearest folder on its way that exists.
first_parent() {
  local path=$1
  while [ ! -d "$path" ]; do path=$(dirname "$path"); done
  printf '%s\n' "$path"
}

# A Python with aiortc in .cache/interop, as locked, unless it is there.
interop_python() {
  local directory="$cache/interop" wanted
  wanted=$(sha256sum "$root/client/tests/interop/requirements.txt" | cut -d' ' -f1)
  [ "$(cat "$directory/.opencall-lock" 2>/dev/null)" = "$wanted" ] && return
  say "Installing the Python peer's packages"
  rm -rf "$directory"
  python3 -m venv "$directory" &&
    "$directory/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
      --requirement "$root/client/tests/interop/requirements.txt" || return 1
  printf '%s\n' "$wanted" >"$directory/.opencall-lock"
}

# GStreamer's webrtcbin with its Python bindings: another peer of the browser tests. Without it they skip its tests.
interop_gstreamer() {
  python3 "$root/client/tests/interop/gstreamer_peer.py" --check 2>/dev/null && return
  apt_install gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad gstreamer1.0-nice \
    python3-gi gir1.2-gst-plugins-base-1.0 gir1.2-gst-plugins-bad-1.0
}
