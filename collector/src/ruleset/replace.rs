//! Putting a given list of rules in the place of what the kernel holds.

use std::collections::HashSet;

use super::plan::{Step, plan};
use crate::audit::client::{Client, ClientError};
use crate::audit::rules::Rule;

/// Makes the kernel's rules `wanted`, in its order within each list. The kernel may hold a rule twice; of such a rule once is
/// what can be had. What fails does not keep the rest from being done.
///
/// # Errors
/// Where the rules cannot be listed, and the first request that failed.
pub fn replace<'a>(
    client: &mut Client,
    wanted: impl IntoIterator<Item = &'a Rule>,
) -> Result<(), ClientError> {
    let now = client.rules()?;
    let mut met = HashSet::new();
    let wanted: Vec<&Rule> = wanted
        .into_iter()
        .filter(|rule| met.insert(*rule))
        .collect();
    let mut failed = None;
    for step in plan(&now, &wanted) {
        let done = match step {
            Step::Delete(index) => client.delete_rule(&now[index]),
            Step::Add(index, placement) => client.add_rule_at(wanted[index], placement),
        };
        if let Err(error) = done {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), Err)
}
