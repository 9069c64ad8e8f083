//! Files changed and asked about in every way that decides about rules on files, without being opened: by paths of all
//! kinds, by descriptor, with success and without.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Context as _;
use nix::unistd::chdir;

use crate::sys;
use crate::workload::Report;

/// The calls that are made, for rules that name them.
pub const CALLS: [&str; 34] = [
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "truncate",
    "ftruncate",
    "utimensat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "getxattr",
    "fgetxattr",
    "removexattr",
    "stat",
    "newfstatat",
    "access",
    "readlink",
    "chdir",
    "mkdir",
    "mkdirat",
    "rmdir",
    "mknod",
    "mknodat",
    "symlink",
    "symlinkat",
    "link",
    "linkat",
    "rename",
    "renameat2",
    "unlink",
    "unlinkat",
];

/// What a path argument is relative to.
const HERE: u64 = sys::AT_FDCWD as u64;
const REMOVE_DIRECTORY: u64 = libc::AT_REMOVEDIR as u64;
const FILE: u64 = libc::S_IFREG as u64 | 0o640;

/// Makes calls, and keeps each path until the end: the address of one tells it from all others.
struct Caller<'a> {
    root: &'a Path,
    paths: Vec<CString>,
    /// Where the kernel writes what it is asked for.
    room: Vec<u8>,
    report: Report,
}

impl Caller<'_> {
    /// `@` stands for the root.
    fn path(&mut self, path: &str) -> u64 {
        let path = match path.strip_prefix("@/") {
            Some(path) => self.root.join(path),
            None => path.into(),
        };
        let text = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        let address = text.as_ptr().expose_provenance() as u64;
        self.paths.push(text);
        address
    }

    fn call(&mut self, number: i64, arguments: [u64; 5]) {
        let result = sys::call(number, arguments);
        self.report.add(&result);
    }

    /// Asks about and changes what stands at `path`, which stays.
    fn use_path(&mut self, path: &str) {
        let name = self.path("user.n");
        let room = self.room.as_mut_ptr().expose_provenance() as u64;
        for (number, to, length) in [
            (libc::SYS_stat, room, 0),
            (libc::SYS_access, 0, 0),
            (libc::SYS_readlink, room, 4096),
        ] {
            let path = self.path(path);
            self.call(number, [path, to, length, 0, 0]);
        }
        for (number, first, second) in [
            (libc::SYS_chmod, 0o644, 0),
            (libc::SYS_truncate, 3, 0),
            (libc::SYS_chown, u64::MAX, u64::MAX),
            (libc::SYS_lchown, u64::MAX, u64::MAX),
        ] {
            let path = self.path(path);
            self.call(number, [path, first, second, 0, 0]);
        }
        for (number, arguments) in [
            (libc::SYS_newfstatat, [room, 0, 0]),
            (libc::SYS_fchmodat, [0o640, 0, 0]),
            (libc::SYS_fchownat, [u64::MAX, u64::MAX, 0]),
            (libc::SYS_utimensat, [0, 0, 0]),
        ] {
            let path = self.path(path);
            let [third, fourth, fifth] = arguments;
            self.call(number, [HERE, path, third, fourth, fifth]);
        }
        for (number, length) in [
            (libc::SYS_setxattr, 4),
            (libc::SYS_lsetxattr, 4),
            (libc::SYS_getxattr, 0),
            (libc::SYS_removexattr, 0),
        ] {
            let path = self.path(path);
            self.call(number, [path, name, name, length, 0]);
        }
    }

    /// Does what can be done by descriptor.
    fn use_descriptor(&mut self, path: &str) {
        let name = self.path("user.d");
        let place = self.path(path);
        let Ok(descriptor) = sys::call(libc::SYS_openat, [HERE, place, libc::O_RDWR as u64, 0, 0])
        else {
            return;
        };
        let descriptor = descriptor as u64;
        self.call(libc::SYS_fchmod, [descriptor, 0o644, 0, 0, 0]);
        self.call(libc::SYS_fchown, [descriptor, u64::MAX, u64::MAX, 0, 0]);
        self.call(libc::SYS_ftruncate, [descriptor, 2, 0, 0, 0]);
        self.call(libc::SYS_fsetxattr, [descriptor, name, name, 4, 0]);
        self.call(libc::SYS_fgetxattr, [descriptor, name, 0, 0, 0]);
    }

    /// Makes, renames and removes in `folder`, by `at` before it; nothing is left.
    fn change(&mut self, descriptor: u64, folder: &str) {
        let at = |name: &str| format!("{folder}{name}");
        let makes = |caller: &mut Self, name: &str| {
            let [one, two, three] = [(); 3].map(|()| caller.path(&at(name)));
            let text = caller.path("../out/c");
            caller.call(libc::SYS_mkdirat, [descriptor, one, 0o755, 0, 0]);
            caller.call(libc::SYS_mknodat, [descriptor, two, FILE, 0, 0]);
            caller.call(libc::SYS_symlinkat, [text, descriptor, three, 0, 0]);
        };
        let removes = |caller: &mut Self, name: &str| {
            let [one, two] = [(); 2].map(|()| caller.path(&at(name)));
            caller.call(libc::SYS_unlinkat, [descriptor, one, 0, 0, 0]);
            caller.call(
                libc::SYS_unlinkat,
                [descriptor, two, REMOVE_DIRECTORY, 0, 0],
            );
        };
        let renames = |caller: &mut Self, from: &str, to: &str, flags: u64| {
            let [from, to] = [from, to].map(|name| caller.path(&at(name)));
            caller.call(
                libc::SYS_renameat2,
                [descriptor, from, descriptor, to, flags],
            );
        };
        makes(self, "new");
        renames(self, "new", "newer", 0);
        removes(self, "new");
        removes(self, "newer");
        for name in ["new", "newer"] {
            let path = self.path(&at(name));
            self.call(libc::SYS_mknodat, [descriptor, path, FILE, 0, 0]);
        }
        renames(self, "new", "newer", u64::from(libc::RENAME_NOREPLACE));
        renames(self, "new", "newer", u64::from(libc::RENAME_EXCHANGE));
        renames(self, "new", "newer", 0);
        let [from, to] = ["newer", "new"].map(|name| self.path(&at(name)));
        self.call(libc::SYS_linkat, [descriptor, from, descriptor, to, 0]);
        // Two names of one file: nothing happens.
        renames(self, "new", "newer", 0);
        removes(self, "new");
        removes(self, "newer");
        removes(self, "newer");
    }

    /// The same with the calls that take no descriptor; `folder` is taken from where the caller stands.
    fn change_here(&mut self, folder: &str) {
        let mut on = |number: i64, names: [&str; 2], other: u64| {
            let one = self.path(&format!("{folder}{}", names[0]));
            let second = match names[1] {
                "" => other,
                name => self.path(&format!("{folder}{name}")),
            };
            self.call(number, [one, second, 0, 0, 0]);
        };
        on(libc::SYS_mkdir, ["new", ""], 0o755);
        on(libc::SYS_rmdir, ["new", ""], 0);
        on(libc::SYS_mknod, ["new", ""], FILE);
        on(libc::SYS_link, ["new", "newer"], 0);
        on(libc::SYS_rename, ["new", "newest"], 0);
        on(libc::SYS_symlink, ["a", "new"], 0);
        on(libc::SYS_rmdir, ["new", ""], 0);
        on(libc::SYS_unlink, ["new", ""], 0);
        on(libc::SYS_unlink, ["newer", ""], 0);
        on(libc::SYS_unlink, ["newest", ""], 0);
        on(libc::SYS_unlink, ["none", ""], 0);
        on(libc::SYS_unlink, ["none/none", ""], 0);
    }
}

/// Does all that in `root`, which [`crate::files::use_all`] has filled, and leaves it as it was.
///
/// # Errors
/// Where something that must work does not.
pub fn make_all(root: &Path) -> anyhow::Result<Report> {
    let mut caller = Caller {
        root,
        paths: Vec::new(),
        room: vec![0; 4096],
        report: Report::default(),
    };
    chdir(root).context("cannot go to the folder")?;
    for path in [
        "@/in/a",
        "in/sub/deep/b",
        "@/in/sub/../a",
        "@/out/c",
        "out/h",
        "@/in/link",
        "@/in/hard",
        "@/in/bound/x",
        "@/in/dangling",
        "@/in/none",
        "@/in/none/none",
        "in/a/none",
        "",
        "/etc/hostname",
        "/proc/self/status",
    ] {
        caller.use_path(path);
    }
    for path in [
        "@/in/a",
        "out/c",
        "@/in/hard",
        "@/out/bound/x",
        "in/sub/deep/b",
    ] {
        caller.use_descriptor(path);
    }
    for folder in [
        "@/in/",
        "@/out/",
        "in/sub/deep/",
        "in/",
        "@/in/bound/",
        "@/out/folder/",
    ] {
        caller.change_here(folder);
    }
    for folder in ["@/in/", "@/out/", "in/sub/", "@/out/bound/"] {
        caller.change(HERE, folder);
    }
    for folder in ["@/in", "@/out", "@/in/sub"] {
        let path = caller.path(folder);
        let flags = (libc::O_PATH | libc::O_DIRECTORY) as u64;
        let descriptor = sys::call(libc::SYS_openat, [HERE, path, flags, 0, 0])? as u64;
        caller.change(descriptor, "");
        caller.change(descriptor, "../in/");
        let path = caller.path(folder);
        caller.call(libc::SYS_chdir, [path, 0, 0, 0, 0]);
        caller.change_here("");
        caller.use_path("a");
    }
    // What is not the caller's to change.
    for path in ["/etc/hostname", "/etc", "/proc/self/status"] {
        let place = caller.path(path);
        caller.call(libc::SYS_unlink, [place, 0, 0, 0, 0]);
        let (from, to) = (caller.path(path), caller.path("@/in/new"));
        caller.call(libc::SYS_rename, [from, to, 0, 0, 0]);
        let (from, to) = (caller.path("@/in/a"), caller.path("/etc/new"));
        caller.call(libc::SYS_rename, [from, to, 0, 0, 0]);
    }
    // The watched file itself goes, comes again, and is replaced.
    for path in ["@/in/a", "@/out/c"] {
        for (number, from, to) in [
            (libc::SYS_rename, path, "@/out/away"),
            (libc::SYS_rename, "@/out/away", path),
            (libc::SYS_link, path, "@/out/kept"),
            (libc::SYS_unlink, path, ""),
            (libc::SYS_rename, "@/out/kept", path),
        ] {
            let (from, to) = (caller.path(from), caller.path(to));
            caller.call(number, [from, to, 0, 0, 0]);
        }
    }
    caller.report.pids.push(std::process::id());
    Ok(caller.report)
}
