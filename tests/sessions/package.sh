# Builds a package, and installs and removes it below a root of its own.
set -e
cd "$1"
mkdir -p tree/DEBIAN tree/usr/share/doc/example
printf 'Package: example\nVersion: 1\nArchitecture: all\nMaintainer: nobody\nDescription: example\n' \
  > tree/DEBIAN/control
echo example > tree/usr/share/doc/example/readme
ln -s readme tree/usr/share/doc/example/link
dpkg-deb -b tree example.deb
mkdir -p root/var/lib/dpkg/info root/var/lib/dpkg/updates
: > root/var/lib/dpkg/status
for action in "-i example.deb" "-r example"; do
  dpkg --force-not-root --force-bad-path --root="$PWD/root" --log=/dev/null $action
done
