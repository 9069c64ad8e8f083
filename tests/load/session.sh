#!/bin/sh
# What people and their machines do all day, once round in a second or two: a shell, a compiler, package tools, a web
# client, searches, archives, refusals, scheduled jobs. Run as a user of its own.
# $1: a folder that is this user's. $2: an address that answers HTTP.
cd "$1" || exit 1
export HOME="$1" LC_ALL=C

# Whatever is not installed, or refused, as much of this is meant to be: it goes on.
try() { "$@" >/dev/null 2>&1 </dev/null || :; }

# Files.
mkdir -p work/sub 'work/a name with spaces'
for n in 1 2 3 4 5; do echo "line $n" > "work/$n"; done
cp work/1 work/sub/copy
cp -r work/sub 'work/a name with spaces/'
mv work/2 work/sub/moved
ln work/3 work/hard
ln -s ../3 work/sub/soft
cat work/sub/soft work/hard > work/both
chmod 600 work/4
chmod -R u+rwX,go-w work
touch -d yesterday work/5
truncate -s 100 work/5
mkfifo work/fifo
try mknod work/node b 7 0
try chown root work/1
ls -laR work > listing

# A shell and its tools.
find /etc /usr/share/doc -maxdepth 2 -type f 2>/dev/null | head -n 150 | xargs -r grep -l Linux 2>/dev/null > hits
sort listing | uniq -c | sort -rn | head -n 5 | awk '{ print $1 }' > counts
sed -i 's/line/row/' work/1 work/3
(umask 077; date; id; uname -a; hostname) > facts 2>&1
echo "$(cat facts)" | while read -r word rest; do echo "$word" >> words; done

# Refusals.
try cat /etc/shadow
try touch /etc/passwd
try sh -c 'echo x >> /etc/group'
try rm -f /etc/hostname
try chmod 777 /etc/hosts
try mkdir /usr/bin/folder
try ls /root
try find /var/log -type f -newer work/1
try cat /nonexistent/file
try mount -t tmpfs none work/sub
try date -s 2020-01-01
try kill -0 1

# Who is who.
try getent passwd
try passwd -S
try chage -l root
try su -c true
try sudo -n true

# A compiler.
printf '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n' > hello.c
try cc -O1 -o hello hello.c
try ./hello
try make -s -f /dev/null nothing

# Packages.
try dpkg-query -W
try dpkg -L coreutils
try apt-cache policy bash

# Archives.
try tar czf work.tar.gz work
mkdir -p unpacked && try tar xzf work.tar.gz -C unpacked
try gzip -9 listing

# The web, and programs in other languages.
try curl -s -m 5 -o page "$2"
try python3 -c 'import json, os, socket, subprocess, tempfile, threading
def work():
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x"); os.fchmod(file.fileno(), 0o640)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
subprocess.run(["true"])
one, other = socket.socketpair(); one.send(b"x"); other.recv(1)
try: socket.create_connection(("127.0.0.1", 9), 1)
except OSError: pass'
try perl -e 'open(my $file, ">", "perl") and print $file "x"; rename "perl", "pearl"; unlink "pearl"'
try git init -q repository
try git -C repository -c user.name=a -c user.email=a@b commit -q --allow-empty -m first

# A scheduled job, one that is killed, one that is watched.
setsid sh -c 'sleep 0.1; date > scheduled' &
sleep 30 &
sleeper=$!
try strace -f -o trace true
kill -9 "$sleeper"
try timeout 0.1 sleep 5
wait

cd / || exit 1
# All of it is the user's own, in its own folder.
rm -rf -- "${1:?}/work" "$1/unpacked" "$1/repository"
exit 0
