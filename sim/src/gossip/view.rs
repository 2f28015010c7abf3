//! What members see, held against the truth.

use lictor_gossip::{Gossip, Member, MemberState};

use super::truth::{Fate, Scene, Watch};
use super::world::World;

/// The first thing in which somebody's view is not the truth; `None`: all views are the truth.
///
/// Members that run must be seen alive, as they are now, by all that run. Those that crashed must not be taken for well, nor for left unless
/// somebody wanted it; those that left are left, unless everybody who had heard of it is gone. Who is gone may be unknown: some came too late
/// to hear of it.
pub fn difference<W: Watch>(world: &World<'_, W>) -> Option<String> {
    difference_of(world.scene(), |at| world.machine(at))
}

/// As [`difference`], of any members.
pub fn difference_of<'a>(scene: Scene<'_>, machine: impl Fn(usize) -> Option<&'a Gossip>) -> Option<String> {
    let up: Vec<usize> = (0..scene.members.len())
        .filter(|at| scene.members[*at].fate.is_up())
        .collect();
    for (about, truth) in scene.members.iter().enumerate() {
        let mut heard_left = None;
        let mut heard_failed = None;
        for at in up.iter().copied().filter(|at| *at != about) {
            let seen = machine(at)?.member(truth.id);
            let state = seen.map(|member| member.state);
            let wrong = match truth.fate {
                Fate::Unborn => seen.is_some(),
                Fate::Leaving => true,
                Fate::Running => !seen.is_some_and(|member| is_as(member, machine(about))),
                Fate::Crashed => match state {
                    None | Some(MemberState::Failed) => false,
                    Some(MemberState::Left) => !truth.forced && truth.left_at < Some(truth.incarnation),
                    Some(MemberState::Alive | MemberState::Suspect | MemberState::Leaving) => true,
                },
                Fate::Left => match state {
                    None => false,
                    Some(MemberState::Left) => {
                        heard_left = Some(at);
                        false
                    }
                    Some(MemberState::Failed) => {
                        heard_failed = Some(at);
                        false
                    }
                    Some(MemberState::Alive | MemberState::Suspect | MemberState::Leaving) => true,
                },
            };
            if wrong {
                return Some(format!(
                    "m{at} sees m{about} as {seen:?}; in truth {truth:?}, which says {:?}",
                    machine(about).map(Gossip::me)
                ));
            }
        }
        if let (Some(left), Some(failed)) = (heard_left, heard_failed) {
            return Some(format!(
                "m{left} knows that m{about} left, m{failed} holds it for failed"
            ));
        }
    }
    None
}

/// Whether a member is seen alive and as it says it is.
fn is_as(seen: &Member, machine: Option<&Gossip>) -> bool {
    machine.is_some_and(|machine| {
        let me = machine.me();
        seen.state == MemberState::Alive
            && (seen.incarnation, &seen.name, seen.address, &seen.tags)
                == (me.incarnation, &me.name, me.address, &me.tags)
    })
}
