//! Loading and attaching the BPF programs.

use aya::{Btf, EbpfLoader, programs::BtfTracePoint};
use zerocopy::IntoBytes as _;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/collector-ebpf"));

/// try
pub fn try_load() -> Result<aya::Ebpf, Box<dyn std::error::Error>> {
    let layout = super::btf::KernelTypes::running()?.layout()?;
    let own = std::process::id();
    let mut ebpf = EbpfLoader::new()
        .override_global("LAYOUT", layout.as_bytes(), true)
        .override_global("OWN_TGID", &own, true)
        .load(OBJECT)?;
    let btf = Btf::from_sys_fs()?;
    for name in ["sys_enter", "sys_exit"] {
        let program: &mut BtfTracePoint = ebpf.program_mut(name).unwrap().try_into()?;
        if let Err(e) = program.load(name, &btf) {
            let text = format!("{e:?}").replace("\\n", "\n");
            let tail: Vec<&str> = text.lines().collect();
            let n = tail.len();
            eprintln!("{name}: {}", tail[n.saturating_sub(60)..].join("\n"));
            continue;
        }
        eprintln!(
            "{name} loaded: {:?}",
            program.info()?.verified_instruction_count()
        );
    }
    Ok(ebpf)
}
