//! Gathering the facts of a call and judging it by the rules in force.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use collector_ebpf::{
    Condition, Conditions, Fact, Facts, Judgement, MAX_CONDITIONS, Plan, TaskState, judge,
};

use crate::kernel::{current, load, pointer, read};
use crate::maps::{CONDITIONS, offset};

/// One buffer of [`CONDITIONS`].
struct Buffer(u32);

impl Conditions for Buffer {
    #[inline(always)]
    fn at(&self, index: u32) -> Option<&Condition> {
        CONDITIONS.get(self.0 * MAX_CONDITIONS + index)
    }

    #[inline(always)]
    fn opaque(value: u64) -> u64 {
        let mut value = value;
        // SAFETY: copies a register onto itself.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) value, options(nomem, nostack)) };
        value
    }
}

/// Judges by the rules of `buffer` that begin at `start`.
#[inline(always)]
pub(crate) fn ruling(buffer: u32, start: u16, facts: &mut Facts) -> Judgement {
    judge(&Buffer(buffer & 1), start, facts)
}

/// Fills in the arguments and who makes the call, as far as the rules ask: each fact is a read of kernel memory, and
/// most calls end with this.
#[inline(always)]
pub(crate) fn gather(facts: &mut Facts, args: &[u64; 8], plan: *const Plan) {
    let task = current();
    facts.known = 0;
    facts.impossible = 0;
    facts.set(Fact::One, 1);
    facts.set(Fact::Pid, (bpf_get_current_pid_tgid() >> 32) as u32);
    let cred: u64 = load(task, offset!(task_cred));
    let id = |place: u32| load::<u32>(cred, offset!(cred_uid) + 4 * place);
    facts.set(Fact::Uid, id(0));
    facts.set(Fact::Gid, id(1));
    facts.set(Fact::Suid, id(2));
    facts.set(Fact::Sgid, id(3));
    facts.set(Fact::Euid, id(4));
    facts.set(Fact::Egid, id(5));
    facts.set(Fact::Fsuid, id(6));
    facts.set(Fact::Fsgid, id(7));
    if flags(plan) & Plan::ASKS_LOGIN != 0 {
        gather_login(facts, task);
    }
    if flags(plan) & Plan::ASKS_PERSONALITY != 0 {
        facts.set(Fact::Personality, load(task, offset!(task_personality)));
    }
    if flags(plan) & Plan::ASKS_STATE != 0 {
        gather_state(facts, task);
    }
    facts.set_args(args);
}

#[inline(always)]
fn gather_state(facts: &mut Facts, task: u64) {
    let context = pointer(task, offset!(task_audit_context));
    let state: u32 = read(context, offset!(audit_state));
    // All ones where there is a context, without a branch, which would be another path for the verifier.
    let there = ((context | context.wrapping_neg()) as i64 >> 63) as u32;
    let state = state & there | TaskState::NoContext as u32 & !there;
    facts.set(Fact::TaskState, state);
}

/// Fills in what a sample carries beyond that.
#[inline(always)]
pub(crate) fn gather_rest(facts: &mut Facts) {
    let task = current();
    gather_login(facts, task);
    let parent: u64 = load(task, offset!(task_real_parent));
    facts.set(Fact::Ppid, load(parent, offset!(task_tgid)));
}

#[inline(always)]
fn gather_login(facts: &mut Facts, task: u64) {
    let auid: u32 = load(task, offset!(task_loginuid));
    facts.set(Fact::Auid, auid);
    facts.set(Fact::AuidSet, u32::from(auid != u32::MAX));
    facts.set(Fact::Session, load(task, offset!(task_sessionid)));
}

/// At an entry: forgets what the call itself, or time while it lasts, may change before the kernel judges it.
#[inline(always)]
pub(crate) fn forget_what_may_change(facts: &mut Facts, plan: *const Plan) {
    facts.known &= !(Fact::RESULT | Fact::Ppid.bit());
    if flags(plan) & Plan::CHANGES_IDS != 0 {
        facts.known &= !Fact::IDS;
    }
    if flags(plan) & Plan::CHANGES_LOGIN != 0 {
        facts.known &= !Fact::LOGIN;
    }
}

/// A plan's flags, read anew each time. Once tested, a value in a register is another value to the verifier on either
/// side of the branch, and what follows would be verified for each combination of them.
#[inline(always)]
pub(crate) fn flags(plan: *const Plan) -> u16 {
    // SAFETY: every plan here is in a valid map element.
    unsafe { (&raw const (*plan).flags).read_volatile() }
}
