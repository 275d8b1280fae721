//! `docs/features.md` names a test or example for each row that is built: here is checked that they exist.

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

    #[test]
    fn every_row_names_a_function_that_exists() {
        let page = fs::read_to_string(root().join("docs/features.md")).unwrap();
        let evidence = evidence(&page);
        assert!(
            evidence.len() > 20,
            "only {} found: does the page still have its form?",
            evidence.len()
        );
        let missing: Vec<_> = evidence
            .into_iter()
            .filter(|(file, function)| {
                let code = fs::read_to_string(root().join(file)).unwrap_or_default();
                !code.contains(&format!("fn {function}("))
            })
            .collect();
        assert!(missing.is_empty(), "not there: {missing:?}");
    }
}
