//! Label selectors with the meaning of Kubernetes.

use crate::inventory::Labels;
use crate::model::{Operator, Requirement, Selector};

/// The label that the API server sets on every namespace.
pub(crate) const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// True if all requirements hold; an empty selector selects everything.
pub(crate) fn selects(selector: &Selector, labels: &Labels) -> bool {
    selector.requirements.iter().all(|requirement| holds(requirement, labels))
}

fn holds(requirement: &Requirement, labels: &Labels) -> bool {
    let value = labels.get(&requirement.key);
    match &requirement.operator {
        Operator::In(values) => value.is_some_and(|value| values.contains(value)),
        Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
        Operator::Exists => value.is_some(),
        Operator::DoesNotExist => value.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(operator: Operator, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        selects(&Selector { requirements: vec![Requirement { key: "app".into(), operator }] }, &labels)
    }

    #[test]
    fn not_in_and_does_not_exist_hold_for_objects_without_the_key() {
        assert!(check(Operator::NotIn(vec!["a".into()]), &[]));
        assert!(check(Operator::DoesNotExist, &[("other", "a")]));
        assert!(!check(Operator::In(vec!["a".into()]), &[]));
        assert!(!check(Operator::Exists, &[]));
    }

    #[test]
    fn an_empty_list_of_values_matches_nothing_and_its_negation_everything() {
        assert!(!check(Operator::In(vec![]), &[("app", "")]));
        assert!(check(Operator::NotIn(vec![]), &[("app", "a")]));
    }

    #[test]
    fn an_empty_selector_selects_everything() {
        assert!(selects(&Selector::default(), &Labels::new()));
    }
}
