#!/usr/bin/env bash
# Makes certificates for tests of TLS in DIRECTORY, each NAME.pem with its key NAME.key:
#   ca          an authority of our own
#   good        for localhost and 127.0.0.1, by the authority; also a client's certificate
#   wrong-name  for another.example, by the authority
#   expired     for localhost and 127.0.0.1, by the authority, over since 2001
#   self        for localhost and 127.0.0.1, signed by itself
set -euo pipefail

[ $# -eq 1 ] || { echo "usage: certificates.sh DIRECTORY" >&2; exit 2; }
mkdir -p "$1"
cd "$1"
readonly HERE=DNS:localhost,IP:127.0.0.1

# sign NAME ALTERNATIVE-NAMES [START END]: a certificate by the authority.
sign() {
    openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$1" -addext "subjectAltName=$2"
    openssl ca -batch -notext -config ca.conf -in "$1.csr" -out "$1.pem" -startdate "${3:-20200101000000Z}" -enddate "${4:-20500101000000Z}"
}

cat >ca.conf <<'END'
[ca]
default_ca = own
[own]
database = index.txt
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
END
: >index.txt

openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 3650 -subj "/CN=Test authority"
sign good "$HERE"
sign wrong-name DNS:another.example
sign expired "$HERE" 20000101000000Z 20010101000000Z
openssl req -x509 -newkey rsa:2048 -nodes -keyout self.key -out self.pem -days 3650 -subj "/CN=self" -addext "subjectAltName=$HERE"
