#!/bin/sh
# build.sh DIRECTORY: the stand-in's packages in a signed apt repository, an archive for cvmfsexec,
# and three repositories, all below DIRECTORY.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
www=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
pool=$www/apt/pool
dist=$www/apt/dists/$release-prod
mkdir -p "$pool" "$dist/main/binary-amd64"

package() {  # NAME DEPENDS; its files are in $work/NAME
  mkdir -p "$work/$1/DEBIAN"
  cat >"$work/$1/DEBIAN/control" <<CONTROL
Package: $1
Version: 0~standin
Architecture: all
Maintainer: tests of vacuo.site.cvmfs <root@localhost>
Depends: $2
Description: stand-in for tests, not CernVM-FS
CONTROL
  dpkg-deb --root-owner-group --build "$work/$1" "$pool/$1.deb" >/dev/null
}

root=$work/cvmfs
mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib/cvmfs-standin" "$root/etc/cvmfs/default.d"
install -m 755 "$here/cvmfs_config" "$root/usr/bin/"
install -m 755 "$here/mount.cvmfs" "$root/usr/sbin/"
install -m 644 "$here/config.sh" "$root/usr/lib/cvmfs-standin/"
echo 'CVMFS_NFILES=131072' >"$root/etc/cvmfs/default.conf"
cat >"$root/etc/auto.cvmfs" <<'SCRIPT'
#!/bin/sh
# stand-in for the map that upstream's package gives to autofs
echo "-fstype=cvmfs,nodev :$1"
SCRIPT
chmod 755 "$root/etc/auto.cvmfs"
package cvmfs "cvmfs-config-default, autofs, squashfuse, curl"

mkdir -p "$work/cvmfs-config-default/etc/cvmfs/default.d"
echo 'CVMFS_CONFIG_REPOSITORY=config.standin.test' >"$work/cvmfs-config-default/etc/cvmfs/default.d/50-standin.conf"
package cvmfs-config-default "base-files"

for deb in "$pool"/*.deb; do
  dpkg-deb --field "$deb"
  echo "Filename: pool/${deb##*/}"
  echo "Size: $(stat -c %s "$deb")"
  printf 'SHA256: %s\n\n' "$(sha256sum "$deb" | cut -d' ' -f1)"
done >"$dist/main/binary-amd64/Packages"
{
  printf 'Suite: %s-prod\nCodename: %s-prod\nComponents: main\nArchitectures: amd64\nDate: %s\nSHA256:\n' \
    "$release" "$release" "$(LC_ALL=C date -Ru)"
  printf ' %s %s main/binary-amd64/Packages\n' \
    "$(sha256sum "$dist/main/binary-amd64/Packages" | cut -d' ' -f1)" "$(stat -c %s "$dist/main/binary-amd64/Packages")"
} >"$dist/Release"
export GNUPGHOME="$work/gnupg"
mkdir -m 700 "$GNUPGHOME"
gpg --quiet --batch --passphrase '' --quick-generate-key 'stand-in <root@localhost>' rsa3072 sign never
gpg --quiet --batch --clearsign --output "$dist/InRelease" "$dist/Release"
gpg --quiet --batch --armor --export >"$www/apt/key.asc"
gpg --batch --with-colons --list-keys | awk -F: '$1 == "fpr" {print $10; exit}' >"$www/fingerprint"
gpgconf --kill all

for repository in config one two-dashed; do
  mkdir -p "$work/content" "$www/cvmfs/$repository.standin.test"
  echo "$repository" >"$work/content/name"
  mksquashfs "$work/content" "$www/cvmfs/$repository.standin.test/image" -quiet -no-progress -noappend
  echo published >"$www/cvmfs/$repository.standin.test/.cvmfspublished"
done

# As a cvmfsexec directory is after makedist, as far as mountrepo and umountrepo go.
root=$work/cvmfsexec
mkdir -p "$root/dist/cvmfs" "$root/dist/etc/cvmfs"
cat >"$root/mountrepo" <<'SCRIPT'
#!/bin/sh
# stand-in for cvmfsexec's mountrepo
here=$(cd "$(dirname "$0")" && pwd)
. "$here/dist/etc/cvmfs/default.local"
. "$here/dist/etc/cvmfs/domain.d/${1#*.}.local"
mountpoint -q "$here/dist/cvmfs/$1" && exit 0
mkdir -p "$here/dist/cvmfs/$1"
proxy=$(echo "$CVMFS_HTTP_PROXY" | tr '|;' '\n\n' | head -1)
url=$(echo "$CVMFS_SERVER_URL" | cut -d';' -f1 | sed "s/@fqrn@/$1/g")
curl -sf --proxy "$proxy" -o "$here/dist/$1.sqfs" "$url/image" || exit 1
exec squashfuse -o allow_other,fsname=cvmfs2 "$here/dist/$1.sqfs" "$here/dist/cvmfs/$1"
SCRIPT
cat >"$root/umountrepo" <<'SCRIPT'
#!/bin/sh
# stand-in for cvmfsexec's umountrepo -a
here=$(cd "$(dirname "$0")" && pwd)
for mount in "$here"/dist/cvmfs/*; do mountpoint -q "$mount" && umount "$mount"; done
exit 0
SCRIPT
chmod 755 "$root/mountrepo" "$root/umountrepo"
tar -C "$work" -cf "$www/cvmfsexec.tar" cvmfsexec
echo "sha256:$(sha256sum "$www/cvmfsexec.tar" | cut -d' ' -f1)" >"$www/cvmfsexec.sha256"
