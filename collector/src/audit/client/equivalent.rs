//! The payload of an `AUDIT_MAKE_EQUIV` request: the lengths of two paths, then the paths, with no NUL.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Puts both paths into bytes.
///
/// # Errors
/// The errno the kernel would answer with: of what is too long, and of a NUL, at which the kernel would take the path
/// to end.
pub(super) fn encode(mount_point: &Path, subtree: &Path) -> Result<Vec<u8>, i32> {
    let paths = [mount_point, subtree].map(|path| path.as_os_str().as_bytes());
    let mut payload = Vec::new();
    for path in paths {
        if path.len() > libc::PATH_MAX as usize {
            return Err(libc::ENAMETOOLONG);
        }
        if path.contains(&0) {
            return Err(libc::EINVAL);
        }
        payload.extend((path.len() as u32).to_ne_bytes());
    }
    payload.extend(paths.concat());
    Ok(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_come_before_both_paths() {
        let payload = encode(Path::new("/ab"), Path::new("/c")).unwrap();
        assert_eq!(payload[..4], 3_u32.to_ne_bytes());
        assert_eq!(payload[4..8], 2_u32.to_ne_bytes());
        assert_eq!(&payload[8..], b"/ab/c");
    }

    #[test]
    fn what_the_kernel_would_cut_is_refused() {
        let long = "a".repeat(4097);
        let encode = |first, second| encode(Path::new(first), Path::new(second));
        assert_eq!(encode("/a", long.as_str()), Err(libc::ENAMETOOLONG));
        assert_eq!(encode("/a\0b", "/c"), Err(libc::EINVAL));
    }
}
