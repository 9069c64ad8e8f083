//! What follows when a call that sys_enter remembered ends: it is judged once more, and sent if the rules report it or
//! the kernel does.

use aya_ebpf::EbpfContext;
use collector_ebpf::{Fact, InFlight, NO_PROGRAM, Note, Report, Ruling, flags};

use crate::judging;
use crate::maps::{CONTROL, NOTES, PLANS, SCRATCH, Scratch, active};
use crate::send::{Outcome, send};

/// What is at hand when the call ends.
#[derive(Clone, Copy)]
pub(crate) struct Ending {
    /// The element of the program in `SCRATCH` and `COUNTERS`.
    pub(crate) program: u32,
    pub(crate) task: u64,
    /// None for a call that does not return.
    pub(crate) result: Option<i64>,
    /// The kernel's own decision, where it decided to report this very call.
    pub(crate) note: Option<*const Note>,
    /// What `Sample::flags` begins with.
    pub(crate) flags: u32,
}

/// The note that audit_log_exit left for this call.
#[inline(always)]
pub(crate) fn note_of(call: *const InFlight, task: u64) -> Option<*const Note> {
    let note = NOTES.get_ptr(&task)?;
    // SAFETY: both elements are this task's until they are removed, and this task is here.
    let same = unsafe { (*note).entry_ns == (*call).entry_ns };
    same.then_some(note)
}

/// Judges and sends `call`.
#[inline(always)]
pub(crate) fn conclude(
    context: &impl EbpfContext,
    call: *const InFlight,
    ending: Ending,
) -> Option<()> {
    // SAFETY: the element stays this task's until it is removed, and this task is here.
    let in_flight = unsafe { &*call };
    let active = active(CONTROL.get(0)?);
    let buffer = active.buffer & 1;
    let arch = usize::from(in_flight.arch & 0x8000_0000 == 0);
    let plans = PLANS.get(in_flight.syscall)?.plans[buffer as usize];
    let plan = if arch == 0 { plans[0] } else { plans[1] };
    // The rules were changed during the call, and the new ones do not name it.
    if plan.start == NO_PROGRAM && ending.note.is_none() {
        return None;
    }
    let scratch = SCRATCH.get_ptr_mut(ending.program)?;
    // SAFETY: this program's own element on this CPU. The result goes through it for the reason given at
    // `judging::flags`.
    let (facts, own_plan, own_result) = unsafe {
        (*scratch).program = ending.program;
        (*scratch).in_flight.plan = plan;
        take_down(scratch, ending.note, ending.flags);
        let own_result = &raw mut (*scratch).sample.result;
        own_result.write_volatile(ending.result.unwrap_or_default());
        let own_plan = &raw const (*scratch).in_flight.plan;
        (&mut (*scratch).facts, own_plan, own_result)
    };
    judging::gather(facts, &in_flight.args, own_plan);
    judging::gather_rest(facts);
    if ending.result.is_some() {
        // SAFETY: as above.
        facts.set_result(unsafe { own_result.read_volatile() });
    } else {
        facts.impossible = Fact::RESULT;
    }
    let judgement = judging::ruling(buffer, plan.start, facts);
    if judgement.ruling == Ruling::NO && !reported(scratch) {
        return None;
    }
    let outcome = Outcome {
        judgement,
        generation: active.generation,
        // SAFETY: as above.
        result: ending.result.map(|_| unsafe { own_result.read_volatile() }),
        audit: None,
    };
    send(context, scratch, call, ending.task, outcome);
    None
}

/// Puts the kernel's decision, or that there is none, into the sample. Through map memory, so that the verifier
/// forgets which of the two it was.
///
/// # Safety
/// `scratch` is the calling program's own element, and the note an element of this task's.
#[inline(always)]
pub(crate) unsafe fn take_down(scratch: *mut Scratch, note: Option<*const Note>, flags: u32) {
    // SAFETY: as the caller promises.
    unsafe {
        let sample = &raw mut (*scratch).sample;
        let bits = match note {
            Some(note) => {
                (*sample).report = (*note).report;
                flags | flags::REPORTED
            }
            None => {
                (*sample).report = Report::default();
                flags
            }
        };
        (&raw mut (*sample).flags).write_volatile(bits);
    }
}

#[inline(always)]
fn reported(scratch: *const Scratch) -> bool {
    // SAFETY: the calling program's own element.
    unsafe { (&raw const (*scratch).sample.flags).read_volatile() & flags::REPORTED != 0 }
}
