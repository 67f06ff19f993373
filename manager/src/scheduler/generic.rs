//! Named resources: which of a node's are free for a task.
//!
//! Start reading at [`claim`]. Pure.

use shoal_types::cluster::service::GenericResource;

use crate::store::NodeLoad;

/// Picks what a task that wants `wanted` gets of what a node `has`; `None` if that is not free.
///
/// A wish for so many is met by particular ones where the node names them, in the node's order.
pub(super) fn claim(
    wanted: &[(String, GenericResource)],
    has: &[(String, GenericResource)],
    load: &NodeLoad,
) -> Option<Vec<(String, GenericResource)>> {
    let mut claims: Vec<(String, GenericResource)> = Vec::new();
    for (kind, wish) in wanted {
        let is_taken = |name: &str, claims: &[(String, GenericResource)]| {
            load.generic.get(kind).is_some_and(|(_, names)| names.contains(name))
                || claims.iter().any(|(other, claim)| {
                    other == kind && matches!(claim, GenericResource::Named(taken) if taken == name)
                })
        };
        let names =
            has.iter().filter(|(other, _)| other == kind).filter_map(|(_, resource)| match resource {
                GenericResource::Named(name) => Some(name.as_str()),
                GenericResource::Discrete(_) => None,
            });
        match wish {
            GenericResource::Named(wish) => {
                let found = names.into_iter().any(|name| name == wish);
                if !found || is_taken(wish, &claims) {
                    return None;
                }
                claims.push((kind.clone(), GenericResource::Named(wish.clone())));
            }
            GenericResource::Discrete(amount) => {
                let free: Vec<&str> = names.filter(|name| !is_taken(name, &claims)).collect();
                if free.is_empty() {
                    let amounts =
                        has.iter().filter(|(other, _)| other == kind).map(|(_, resource)| match resource {
                            GenericResource::Discrete(amount) => *amount,
                            GenericResource::Named(_) => 0,
                        });
                    let total = amounts.fold(0_u64, u64::saturating_add);
                    let taken = load.generic.get(kind).map_or(0, |(amount, _)| *amount);
                    if total.saturating_sub(taken) < *amount {
                        return None;
                    }
                    claims.push((kind.clone(), GenericResource::Discrete(*amount)));
                } else {
                    let n_wanted = usize::try_from(*amount).ok().filter(|&n| n <= free.len())?;
                    claims.extend(
                        free.into_iter()
                            .take(n_wanted)
                            .map(|name| (kind.clone(), GenericResource::Named(name.to_owned()))),
                    );
                }
            }
        }
    }
    Some(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> (String, GenericResource) {
        ("gpu".to_owned(), GenericResource::Named(name.to_owned()))
    }

    fn some(amount: u64) -> (String, GenericResource) {
        ("gpu".to_owned(), GenericResource::Discrete(amount))
    }

    #[test]
    fn claims_are_met_by_what_is_free() {
        let mut load = NodeLoad::default();
        load.generic.insert("gpu".to_owned(), (1, ["a".to_owned()].into()));
        let cases = [
            (vec![some(1)], vec![named("a"), named("b")], Some(vec![named("b")])),
            (vec![some(2)], vec![named("a"), named("b")], None),
            (vec![named("b")], vec![named("a"), named("b")], Some(vec![named("b")])),
            (vec![named("a")], vec![named("a"), named("b")], None),
            (vec![some(2)], vec![some(3)], Some(vec![some(2)])),
            (vec![some(3)], vec![some(3)], None),
            (vec![some(1)], vec![], None),
            (vec![], vec![], Some(vec![])),
        ];
        for (wanted, has, expected) in cases {
            assert_eq!(claim(&wanted, &has, &load), expected, "{wanted:?} of {has:?}");
        }
    }
}
