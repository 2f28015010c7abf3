//! Names of prepared queries beside a naive table of them.

use proptest::prelude::*;

use super::*;

/// One that there is: its number, its name in lower case, whether it is a template.
type Known = (u128, String, bool);

#[derive(Clone, Debug)]
enum Step {
    Create(u128, String, bool),
    Update(u128, String, bool),
    Delete(u128),
}

fn any_name() -> impl Strategy<Value = String> {
    "[abAB\u{e9}-]{0,4}"
}

fn any_step() -> impl Strategy<Value = Step> {
    let said = || (0..6_u128, any_name(), any::<bool>());
    prop_oneof![
        3 => said().prop_map(|(id, name, is_template)| Step::Create(id, name, is_template)),
        2 => said().prop_map(|(id, name, is_template)| Step::Update(id, name, is_template)),
        1 => (0..6_u128).prop_map(Step::Delete),
    ]
}

fn described(id: u128, name: &str, is_template: bool) -> PreparedDef {
    if is_template {
        template(id, name)
    } else {
        def(id, name)
    }
}

/// Whether a query may be called so.
fn fits(known: &[Known], id: u128, name: &str, is_template: bool) -> bool {
    let folded = name.to_ascii_lowercase();
    let is_taken = known
        .iter()
        .any(|(other, taken, _)| *other != id && *taken == folded);
    !is_taken && (is_template || !name.is_empty())
}

fn meant(known: &[Known], name: &str) -> Option<u128> {
    let folded = name.to_ascii_lowercase();
    if name.is_empty() {
        return None;
    }
    let exact = known.iter().find(|(_, taken, _)| *taken == folded);
    let templates = known
        .iter()
        .filter(|(_, prefix, is_template)| *is_template && folded.starts_with(prefix.as_str()));
    let longest = || templates.max_by_key(|(_, prefix, _)| prefix.len());
    exact.or_else(longest).map(|(id, ..)| *id)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_name_means_what_it_means_to_a_naive_table(
        steps in prop::collection::vec(any_step(), 1..24),
        names in prop::collection::vec(any_name(), 16),
    ) {
        let (mut bench, mut known) = (Bench::new(), Vec::<Known>::new());
        for step in steps {
            let is_known = |id: u128| known.iter().any(|(other, ..)| *other == id);
            let (happens, outcome) = match &step {
                Step::Create(id, name, is_template) => {
                    let outcome = create(&mut bench, described(*id, name, *is_template));
                    (!is_known(*id) && fits(&known, *id, name, *is_template), outcome)
                }
                Step::Update(id, name, is_template) => {
                    let outcome = update(&mut bench, described(*id, name, *is_template));
                    (is_known(*id) && fits(&known, *id, name, *is_template), outcome)
                }
                Step::Delete(id) => (is_known(*id), delete(&mut bench, *id)),
            };
            let happened = match outcome {
                Outcome::Done(done) => done,
                Outcome::Prepared(_) => true,
                Outcome::Refused(_) | Outcome::Session(_) | Outcome::Txn(_) => false,
            };
            prop_assert_eq!(happened, happens, "{:?}", step);
            prop_assert_eq!(bench.changes.is_empty(), !happens);
            if happens {
                match step {
                    Step::Create(id, name, is_template) | Step::Update(id, name, is_template) => {
                        known.retain(|(other, ..)| *other != id);
                        known.push((id, name.to_ascii_lowercase(), is_template));
                    }
                    Step::Delete(id) => known.retain(|(other, ..)| *other != id),
                }
            }
            for name in &names {
                prop_assert_eq!(resolved(&bench, name), meant(&known, name), "{:?} of {:?}", name, known);
            }
        }
        let again = rebuilt(rows(&bench.state), bench.state.index()).unwrap();
        prop_assert_eq!(again.digest(), bench.state.digest());
        for name in &names {
            prop_assert_eq!(again.query(&Query::Resolve(name.clone())), bench.state.query(&Query::Resolve(name.clone())));
        }
    }
}
