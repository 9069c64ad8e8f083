# What somebody does at a prompt.
set -e
cd "$1"
echo one > one
cat one > two
cp -p two three
mv three four
ln four five
ln -s five six
chmod 600 four
touch -d 2001-01-01 four
ls -l > list
cat six nowhere || true
grep -r one . || true
rm -f one two six
mkdir -p a/b
mv four a/b
rmdir a || true
rm -r a
