//! Names of errors, as `-F exit=` takes them.
//!
//! Owns the table of include/uapi/asm-generic/errno{,-base}.h, name and number. Knows nothing of signs: a call that
//! fails returns the number negated.

macro_rules! errors {
    ($($name:ident,)*) => {
        /// Every name with its number; where two names share one, the usual name is first.
        pub const ERRORS: &[(&str, i32)] = &[$((stringify!($name), libc::$name),)*];
    };
}

errors! {
    EPERM, ENOENT, ESRCH, EINTR, EIO, ENXIO, E2BIG, ENOEXEC, EBADF, ECHILD, EAGAIN, ENOMEM, EACCES,
    EFAULT, ENOTBLK, EBUSY, EEXIST, EXDEV, ENODEV, ENOTDIR, EISDIR, EINVAL, ENFILE, EMFILE, ENOTTY,
    ETXTBSY, EFBIG, ENOSPC, ESPIPE, EROFS, EMLINK, EPIPE, EDOM, ERANGE, EDEADLK, ENAMETOOLONG,
    ENOLCK, ENOSYS, ENOTEMPTY, ELOOP, EWOULDBLOCK, ENOMSG, EIDRM, ECHRNG, EL2NSYNC, EL3HLT, EL3RST,
    ELNRNG, EUNATCH, ENOCSI, EL2HLT, EBADE, EBADR, EXFULL, ENOANO, EBADRQC, EBADSLT, EDEADLOCK,
    EBFONT, ENOSTR, ENODATA, ETIME, ENOSR, ENONET, ENOPKG, EREMOTE, ENOLINK, EADV, ESRMNT, ECOMM,
    EPROTO, EMULTIHOP, EDOTDOT, EBADMSG, EOVERFLOW, ENOTUNIQ, EBADFD, EREMCHG, ELIBACC, ELIBBAD,
    ELIBSCN, ELIBMAX, ELIBEXEC, EILSEQ, ERESTART, ESTRPIPE, EUSERS, ENOTSOCK, EDESTADDRREQ,
    EMSGSIZE, EPROTOTYPE, ENOPROTOOPT, EPROTONOSUPPORT, ESOCKTNOSUPPORT, EOPNOTSUPP, EPFNOSUPPORT,
    EAFNOSUPPORT, EADDRINUSE, EADDRNOTAVAIL, ENETDOWN, ENETUNREACH, ENETRESET, ECONNABORTED,
    ECONNRESET, ENOBUFS, EISCONN, ENOTCONN, ESHUTDOWN, ETOOMANYREFS, ETIMEDOUT, ECONNREFUSED,
    EHOSTDOWN, EHOSTUNREACH, EALREADY, EINPROGRESS, ESTALE, EUCLEAN, ENOTNAM, ENAVAIL, EISNAM,
    EREMOTEIO, EDQUOT, ENOMEDIUM, EMEDIUMTYPE, ECANCELED, ENOKEY, EKEYEXPIRED, EKEYREVOKED,
    EKEYREJECTED, EOWNERDEAD, ENOTRECOVERABLE, ERFKILL, EHWPOISON,
}

/// The number of error `name`, whatever its case.
pub fn error_number(name: &str) -> Option<i32> {
    let named = |(known, _): &&(&str, i32)| known.eq_ignore_ascii_case(name);
    ERRORS.iter().find(named).map(|(_, number)| *number)
}

/// The usual name of error `number`.
pub fn error_name(number: i32) -> Option<&'static str> {
    let numbered = |(_, known): &&(&str, i32)| *known == number;
    ERRORS.iter().find(numbered).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_names_and_numbers() {
        assert_eq!(error_number("EPERM"), Some(1));
        assert_eq!(error_number("eacces"), Some(13));
        assert_eq!(error_number("EWOULDBLOCK"), Some(11));
        assert_eq!(error_number("EPERMIT"), None);
        assert_eq!(error_name(11), Some("EAGAIN"));
        assert_eq!(error_name(35), Some("EDEADLK"));
        assert_eq!(error_name(0), None);
        // All numbers of the kernel's headers, which leave out 41 and 58.
        assert_eq!(ERRORS.len(), 133);
        let unnamed: Vec<_> = (1..134).filter(|n| error_name(*n).is_none()).collect();
        assert_eq!(unnamed, [41, 58]);
    }
}
