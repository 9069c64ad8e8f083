//! Putting a sample together and sending it.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid};
use aya_log_ebpf::{debug, warn};
use collector_ebpf::{
    Counters, Fact, InFlight, Judgement, Plan, Sample, StringKind, TaskState, VERSION, flags,
};

use crate::kernel::{current, load, pointer};
use crate::maps::{COUNTERS, RING, Scratch, context_offset, hooks, labels, offset};
use crate::opened::{self, Depth};
use crate::walk;
use crate::{arguments, draft, kept, label, noted, written};

/// The reader is woken once per so many bytes and CPU; below that it finds samples when records wake it, and some twenty times a
/// second.
const WAKEUP_BYTES: u64 = 64 * 1024;
/// `BPF_RB_NO_WAKEUP` and `BPF_RB_FORCE_WAKEUP` of include/uapi/linux/bpf.h.
pub(crate) const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;
/// A sample of a system call, in `Sample::kind`.
const KIND_SYSCALL: u8 = 1;

/// Changes the counters of `program` (its element in [`COUNTERS`]) on this CPU.
#[inline(always)]
pub(crate) fn count(program: u32, change: impl FnOnce(&mut Counters)) {
    if let Some(counters) = COUNTERS.get_ptr_mut(program) {
        // SAFETY: this program's own element on this CPU.
        change(unsafe { &mut *counters });
    }
}

/// What is known when the sample is taken, beside the call itself.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) judgement: Judgement,
    pub(crate) generation: u32,
    /// None for a call that does not return.
    pub(crate) result: Option<i64>,
    /// The audit context, where the kernel is writing the event from it right now.
    pub(crate) audit: Option<u64>,
}

/// Sends a sample of the call `in_flight`, whose facts and report are in `scratch`.
#[inline(always)]
pub(crate) fn send(
    context: &impl EbpfContext,
    scratch: *mut Scratch,
    in_flight: *const InFlight,
    task: u64,
    outcome: Outcome,
) {
    // SAFETY: this program's own element on this CPU.
    let program = unsafe { (*scratch).program };
    let Some(counters) = COUNTERS.get_ptr_mut(program) else {
        return;
    };
    // SAFETY: this program's own elements on this CPU, and a valid element of the map of calls in flight.
    let (counters, facts, call) = unsafe { (&mut *counters, &(*scratch).facts, &*in_flight) };
    counters.attempted += 1;
    let who = bpf_get_current_pid_tgid();
    let value = |fact: Fact| facts.values[fact as usize];
    // SAFETY: this CPU's own element.
    let sample = unsafe { &mut (*scratch).sample };
    // SAFETY: as above; volatile for the reason given at `take_down`.
    let mut bits = unsafe { (&raw const sample.flags).read_volatile() };
    if outcome.result.is_some() {
        bits |= flags::RESULT;
    }
    if load::<u64>(current(), offset!(task_audit_context)) != 0 {
        bits |= flags::AUDIT_CONTEXT;
    }
    if facts.known & Fact::TaskState.bit() != 0
        && value(Fact::TaskState) == TaskState::Record as u32
    {
        bits |= flags::TASK_ALWAYS;
    }
    if labels() {
        bits |= flags::LABELS;
    }
    sample.fixed = size_of::<Sample>() as u16;
    sample.version = VERSION;
    sample.kind = KIND_SYSCALL;
    sample.sequence = counters.attempted << 3 | u64::from(program);
    sample.entry_ns = call.entry_ns;
    // SAFETY: helpers without arguments.
    sample.taken_ns = unsafe { bpf_ktime_get_ns() };
    for index in 0..6 {
        sample.args[index] = call.args[index];
    }
    sample.result = outcome.result.unwrap_or_default();
    // SAFETY: a helper without arguments.
    sample.cpu = unsafe { bpf_get_smp_processor_id() };
    sample.flags = bits;
    sample.tgid = (who >> 32) as u32;
    sample.tid = who as u32;
    sample.ppid = value(Fact::Ppid);
    sample.arch = call.arch;
    sample.syscall = call.syscall;
    sample.generation = outcome.generation;
    sample.rule = outcome.judgement.rule;
    sample.ruling = outcome.judgement.ruling.0 as u8;
    sample.padding = 0;
    sample.session = value(Fact::Session);
    sample.auid = value(Fact::Auid);
    for index in 0..8 {
        sample.ids[index] = facts.values[Fact::Uid as usize + index];
    }
    sample.personality = load(current(), offset!(task_personality));
    sample.comm = bpf_get_current_comm().unwrap_or_default();

    strings(scratch, in_flight, task, outcome);
    let Some(end) = draft::within(draft::cursor(scratch), 0) else {
        counters.ring_full += 1;
        return;
    };
    let length = size_of::<Sample>() as u64 + end;
    // SAFETY: this CPU's own element; the strings follow the fixed part without a gap, `length` bytes in all.
    let (sent, bytes) = unsafe {
        (*scratch).sample.length = length as u32;
        let start = (&raw const (*scratch).sample).cast::<u8>();
        let bytes = (length + 8 + 7) & !7;
        let flags = if counters.since_wakeup + bytes >= WAKEUP_BYTES {
            FORCE_WAKEUP
        } else {
            NO_WAKEUP
        };
        let sample = core::slice::from_raw_parts(start, length as usize);
        (RING.output::<[u8]>(sample, flags).is_ok(), bytes)
    };
    if sent {
        counters.submitted += 1;
        counters.submitted_bytes += bytes;
        counters.since_wakeup = if counters.since_wakeup + bytes >= WAKEUP_BYTES {
            0
        } else {
            counters.since_wakeup + bytes
        };
        debug!(
            context,
            "call {} of task {} sampled", call.syscall, who as u32
        );
    } else {
        counters.ring_full += 1;
        warn!(
            context,
            "ring full, call {} of task {} lost", call.syscall, who as u32
        );
    }
}

/// Puts the strings into the area.
#[inline(always)]
fn strings(scratch: *mut Scratch, in_flight: *const InFlight, task: u64, outcome: Outcome) {
    let result = outcome.result;
    // SAFETY: a valid map element.
    let plan = unsafe { (*in_flight).plan };
    let mm: u64 = load(current(), offset!(task_mm));
    let fs: u64 = load(current(), offset!(task_fs));
    draft::begin(scratch);
    // The calls that do not return have no arguments of that kind.
    if result.is_some() {
        arguments::push_paths(scratch, in_flight);
        arguments::push_sockaddr(scratch, in_flight);
        if plan.flags & Plan::EXEC != 0 && result == Some(0) {
            arguments::push_argv(scratch, mm);
        }
    }
    let file: u64 = load(mm, offset!(mm_exe_file));
    // Without memory or a program the kernel prints exe=(null).
    if mm != 0 && file != 0 {
        let path = file + u64::from(offset!(file_path));
        walk::push_typed(scratch, StringKind::Exe as u64, path, fs);
    }
    if let Some(audit) = outcome.audit
        && pointer(audit, context_offset!(pwd)) != 0
    {
        let path = audit + u64::from(context_offset!(pwd));
        walk::push(scratch, StringKind::Cwd as u64, path, fs);
    } else if result.is_some() && plan.flags & Plan::CHANGES_CWD != 0 {
        arguments::push_old_cwd(scratch, in_flight);
    } else {
        let path = fs + u64::from(offset!(fs_pwd));
        walk::push_typed(scratch, StringKind::Cwd as u64, path, fs);
    }
    arguments::push_tty(scratch);
    if hooks() {
        written::push_key(scratch, task);
    }
    if let Some(audit) = outcome.audit {
        written::push_sockaddr(scratch, audit);
    }
    // After what every sample has, so that it cannot take the room of that.
    if let Some(result) = result
        && result >= 0
        && plan.flags & Plan::OPENS != 0
    {
        let depth = if plan.flags & Plan::ASKS_FILES != 0 {
            Depth::Rules
        } else {
            Depth::Records
        };
        opened::push(scratch, result as u64, fs, depth);
    }
    if result.is_some() && plan.flags & Plan::ASKS_FILES != 0 {
        noted::push(scratch, in_flight, task);
        opened::push_standing(scratch, in_flight, fs, file);
    }
    if plan.flags & Plan::ASKS_EXE != 0 && mm != 0 && file != 0 {
        opened::push_exe(scratch, file);
    }
    if plan.flags & Plan::ASKS_GROUPS != 0 {
        arguments::push_groups(scratch, task);
    }
    let audit: u64 = load(current(), offset!(task_audit_context));
    if !kept::push_title(scratch, audit) {
        arguments::push_title(scratch, mm);
    }
    if labels() {
        label::push(scratch, pointer(task, offset!(task_cred)));
    }
    if hooks() {
        kept::push(scratch, task);
    }
}
