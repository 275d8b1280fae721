//! `docs/features.md` names a test or example for each row that is built, `docs/architecture.md` one for each state and input: here
//! is checked that they exist.

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::process::root;

    /// Every `file::function` in backquotes in the last column of the tables.
    fn evidence(page: &str) -> Vec<(&str, &str)> {
        let rows = page.lines().filter(|line| line.starts_with("| "));
        let cells = rows.filter_map(|row| row.trim_end_matches('|').rsplit('|').next());
        cells
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .filter_map(|name| name.rsplit_once("::"))
            .collect()
    }

    /// What a page names and is not there.
    fn missing(page: &str, rows: usize) -> Vec<String> {
        let page = fs::read_to_string(root().join(page)).unwrap();
        let evidence = evidence(&page);
        let found = evidence.len();
        assert!(
            found > rows,
            "only {found} found: does the page still have its form?"
        );
        let is_there = |(file, function): &(&str, &str)| {
            let code = fs::read_to_string(root().join(file)).unwrap_or_default();
            code.contains(&format!("fn {function}("))
        };
        let missing = evidence.into_iter().filter(|name| !is_there(name));
        missing
            .map(|(file, function)| format!("{file}::{function}"))
            .collect()
    }

    #[test]
    fn every_row_names_a_function_that_exists() {
        assert_eq!(missing("docs/features.md", 20), [""; 0]);
    }

    #[test]
    fn every_state_and_input_names_a_test_that_exists() {
        assert_eq!(missing("docs/architecture.md", 100), [""; 0]);
    }
}
