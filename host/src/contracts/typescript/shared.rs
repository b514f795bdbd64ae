//! Types that several events have in common: declared once, under a name of their own.

use std::collections::{HashMap, HashSet};

use super::schema::Definitions;

/// Leaves one of those definitions that say the same. One that stands for several is called what its schema is called
/// where it stands, and not after one of its events. The new names of those whose name has changed are returned, by the
/// former ones.
pub(super) fn unite(definitions: &mut Definitions) -> HashMap<String, String> {
    let mut names = HashMap::new();
    let mut shared = HashSet::new();
    // Two are the same as soon as what they are made of is.
    loop {
        let same = same(definitions);
        if same.is_empty() {
            break;
        }
        shared.extend(same.values().cloned());
        rename(definitions, &same, &mut names);
    }
    let shared = definitions
        .all
        .iter()
        .filter(|it| shared.contains(&it.name));
    let shared = shared.map(|it| (it.name.clone(), definitions.names.make(&[&it.called])));
    let new = shared.collect();
    rename(definitions, &new, &mut names);
    names
}

/// For whom which other definition says the same.
fn same(definitions: &Definitions) -> HashMap<String, String> {
    let mut first = HashMap::new();
    let mut same = HashMap::new();
    for definition in &definitions.all {
        let said = (&definition.called, &definition.docs, &definition.value);
        let kept = *first.entry(said).or_insert(&definition.name);
        if *kept != definition.name {
            same.insert(definition.name.clone(), kept.clone());
        }
    }
    same
}

/// Gives definitions other names, of which those that are there already take the place of their bearers, and notes
/// that in all the changes so far.
fn rename(
    definitions: &mut Definitions,
    new: &HashMap<String, String>,
    names: &mut HashMap<String, String>,
) {
    let known: HashSet<_> = definitions.all.iter().map(|it| it.name.clone()).collect();
    let is_replaced = |name: &String| new.get(name).is_some_and(|new| known.contains(new));
    definitions.all.retain(|it| !is_replaced(&it.name));
    for definition in &mut definitions.all {
        definition.value.rename(new);
        if let Some(name) = new.get(&definition.name) {
            definition.name.clone_from(name);
        }
    }
    for name in names.values_mut() {
        if let Some(newer) = new.get(name) {
            name.clone_from(newer);
        }
    }
    names.extend(
        new.iter()
            .map(|(former, new)| (former.clone(), new.clone())),
    );
}
