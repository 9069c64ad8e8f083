//! Any bytes as a body of each record type with a reader of its own: no panic, fields lie in the body, readers stay in
//! their bounds.
//!
//! `cargo fuzz run -s none fields` runs it with the pinned toolchain.
#![no_main]

use collector::audit::fields::decode_untrusted;
use collector::audit::parse::netlink_record;
use collector::audit::record::RecordType;
use collector::audit::records::{ExecveFields, PathFields, SockaddrFields, SyscallFields};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = [b"audit(1.000:1): ", data].concat();
    let record = |record_type: RecordType| {
        netlink_record(record_type.0, &text).expect("any bytes may follow the stamp")
    };
    let user = record(RecordType::USER_LOGIN);
    for field in user.fields().chain(user.message_fields()) {
        assert!(field.name.len() + field.value.raw().len() < data.len());
        if let Some(decoded) = decode_untrusted(field.name, field.value) {
            assert!(decoded.len() <= field.value.raw().len());
        }
        let _ = (
            field.value.as_i64(),
            field.value.as_hex_u64(),
            field.value.as_id(),
        );
        let _ = field.value.as_octal_u64();
        let _ = user.decoded(field.name);
    }
    let execve = record(RecordType::EXECVE);
    if let Some(list) = ExecveFields::from_records([execve, execve]) {
        assert!(list.argv().len() <= ExecveFields::MAX_ARGUMENTS);
        let bytes: usize = list.argv().flatten().map(<[u8]>::len).sum();
        assert!(bytes <= 2 * data.len());
    }
    SyscallFields::from_record(record(RecordType::SYSCALL));
    PathFields::from_record(record(RecordType::PATH));
    SockaddrFields::from_record(record(RecordType::SOCKADDR));
});
