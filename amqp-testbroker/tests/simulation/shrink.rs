//! Finds the smallest part of a case that still breaks the same rule.

use amqp_testbroker::LinkConfig;

use crate::case::{Case, Settings};

/// Leaves out what is not needed, as long as `fails` says that what is left fails in the same way.
pub(crate) fn shrink(case: &Case, fails: impl Fn(&Case) -> bool) -> Case {
    let mut best = case.clone();
    loop {
        let before = size(&best);
        shrink_steps(&mut best, &fails);
        shrink_waits(&mut best, &fails);
        shrink_links(&mut best, &fails);
        shrink_settings(&mut best, &fails);
        if size(&best) == before {
            return best;
        }
    }
}

fn size(case: &Case) -> (usize, u64, usize) {
    let perfect = LinkConfig::perfect();
    let links = case.links.iter().filter(|link| **link != perfect);
    let waits = case.steps.iter().map(|step| step.after).sum();
    (case.steps.len(), waits, links.count())
}

/// Keeps the candidate if it fails.
fn try_keep(best: &mut Case, candidate: Case, fails: &impl Fn(&Case) -> bool) -> bool {
    let is_kept = fails(&candidate);
    if is_kept {
        *best = candidate;
    }
    is_kept
}

/// Halves first, single steps last.
fn shrink_steps(best: &mut Case, fails: &impl Fn(&Case) -> bool) {
    let mut length = best.steps.len().div_ceil(2);
    while length > 0 {
        let mut from = 0;
        while from < best.steps.len() {
            let mut candidate = best.clone();
            let end = (from + length).min(candidate.steps.len());
            candidate.steps.drain(from..end);
            if !try_keep(best, candidate, fails) {
                from += length;
            }
        }
        length /= 2;
    }
}

fn shrink_waits(best: &mut Case, fails: &impl Fn(&Case) -> bool) {
    for place in 0..best.steps.len() {
        for after in [0, 1, best.steps[place].after / 2] {
            if after < best.steps[place].after {
                let mut candidate = best.clone();
                candidate.steps[place].after = after;
                if try_keep(best, candidate, fails) {
                    break;
                }
            }
        }
    }
}

fn shrink_links(best: &mut Case, fails: &impl Fn(&Case) -> bool) {
    for place in 0..best.links.len() {
        let cut = best.links[place].cut;
        let mut only_cut = LinkConfig::perfect();
        only_cut.cut = cut;
        for link in [LinkConfig::perfect(), only_cut] {
            if best.links[place] != link {
                let mut candidate = best.clone();
                candidate.links[place] = link;
                if try_keep(best, candidate, fails) {
                    break;
                }
            }
        }
    }
}

fn shrink_settings(best: &mut Case, fails: &impl Fn(&Case) -> bool) {
    let mut candidate = best.clone();
    candidate.settings = Settings::PLAIN;
    try_keep(best, candidate, fails);
}
