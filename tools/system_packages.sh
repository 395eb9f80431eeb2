#!/usr/bin/env bash
# Makes sure that the few things pip cannot bring are here: a C++20 compiler, Python's venv and headers, GoogleTest.
# Installs them as root on Debian and Ubuntu; anywhere else it names them and stops.
set -euo pipefail
python=${PYTHON:-python3}
missing=()

has_header() { echo "#include <$1>" | g++ -x c++ -E - > /dev/null 2>&1; }

command -v g++ > /dev/null || missing+=(g++)
command -v "$python" > /dev/null || missing+=(python3)
"$python" -c 'import ensurepip, venv' 2> /dev/null || missing+=(python3-venv)
"$python" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2> /dev/null ||
  missing+=(python3-dev)
if ! command -v g++ > /dev/null || ! has_header gtest/gtest.h; then missing+=(libgtest-dev); fi

if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    echo "Installing system packages: ${missing[*]} ccache"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" ccache
  else
    echo "Missing here: ${missing[*]}" >&2
    echo "On Debian and Ubuntu: sudo apt-get install ${missing[*]}" >&2
    exit 1
  fi
fi

version=$(g++ -dumpfullversion -dumpversion | cut -d. -f1)
if [ "$version" -lt 11 ]; then
  echo "g++ $version is too old for C++20 as used here: install g++ 11 or newer" >&2
  exit 1
fi
