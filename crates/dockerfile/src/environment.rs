//! Environments: lists of variables whose order is part of a step.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::expand::Variables;

/// The environment of commands. A variable that is set again moves to the end (`EnvList` in
/// `client/llb/meta.go`).
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    values: HashMap<Arc<str>, (u64, Arc<str>)>,
    order: BTreeMap<u64, Arc<str>>,
    next: u64,
    bytes: usize,
}

impl Environment {
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let name: Arc<str> = name.into();
        if let Some((place, old)) = self.values.insert(name.clone(), (self.next, value.into())) {
            self.order.remove(&place);
            self.bytes -= name.len() + old.len();
        }
        self.bytes += name.len() + value.len();
        self.order.insert(self.next, name);
        self.next += 1;
    }

    /// Returns `NAME=value` of each variable.
    pub(crate) fn list(&self) -> Vec<String> {
        let value = |name: &Arc<str>| self.values.get(name).map_or("", |(_, value)| value);
        self.order.values().map(|name| format!("{name}={}", value(name))).collect()
    }

    /// Returns about how much memory it takes.
    pub(crate) fn size(&self) -> usize {
        self.bytes + 64 * self.values.len()
    }
}

impl Variables for Environment {
    fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(_, value)| &**value)
    }
}

/// The environment in the config of an image. A variable that is set again keeps its place (`addEnv` in
/// `dockerfile2llb/convert.go`).
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigEnvironment {
    list: Vec<(String, String)>,
    /// The first place of each name.
    places: HashMap<String, usize>,
    bytes: usize,
}

impl ConfigEnvironment {
    pub(crate) fn new(list: &[String]) -> Self {
        let mut environment = Self::default();
        list.iter().for_each(|entry| environment.push(entry));
        environment
    }

    fn push(&mut self, entry: &str) {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        self.places.entry(name.to_owned()).or_insert(self.list.len());
        self.bytes += entry.len();
        self.list.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        match self.places.get(name).and_then(|&place| self.list.get_mut(place)) {
            Some((_, old)) => {
                self.bytes += value.len();
                value.clone_into(old);
            }
            // A name that has an equals sign ends there for those who read the config.
            None => self.push(&format!("{name}={value}")),
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Returns about how much memory it takes.
    pub(crate) fn size(&self) -> usize {
        self.bytes + 64 * self.list.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_set_again_moves_to_the_end() {
        let mut environment = Environment::default();
        for (name, value) in [("A", "1"), ("B", "2"), ("A", "3")] {
            environment.set(name, value);
        }
        assert_eq!(environment.list(), ["B=2", "A=3"]);
        assert_eq!(environment.get("A"), Some("3"));
    }

    #[test]
    fn in_a_config_it_stays() {
        let mut config = ConfigEnvironment::new(&["A=1".to_owned(), "B".to_owned()]);
        config.set("A", "3");
        config.set("C=d", "4");
        let list: Vec<_> = config.iter().collect();
        assert_eq!(list, [("A", "3"), ("B", ""), ("C", "d=4")]);
        assert!(config.has("C") && !config.has("C=d"));
    }
}
