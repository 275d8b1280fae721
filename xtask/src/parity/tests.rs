//! The table, from the tests' lines to the page and back.

use super::*;

const IN_BOTH: &str = "tokio_and_mio";

fn scenario(name: &str) -> Scenario {
    ("publishing".to_owned(), name.to_owned())
}

fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    items.into_iter().collect()
}

const RABBITMQ_3: Column = Column::RabbitMq {
    major: 3,
    over_tls: false,
};

const RABBITMQ_4: Column = Column::RabbitMq {
    major: 4,
    over_tls: true,
};

const EVERYWHERE: [Place; 3] = [
    Place::Embedded,
    Place::RabbitMq { over_tls: false },
    Place::RabbitMq { over_tls: true },
];

/// Two adapters have it; two lack it.
fn planned() -> Plan {
    let has = ["amqp-tokio", "amqp-mio"].map(|adapter| (adapter.to_owned(), set(EVERYWHERE)));
    Plan::from([(scenario(IN_BOTH), BTreeMap::from(has))])
}

fn table(tokio: &[Column], mio: &[Column]) -> Table {
    let row = [("amqp-tokio", tokio), ("amqp-mio", mio)];
    let row = row.map(|(adapter, passed)| (adapter.to_owned(), set(passed.iter().cloned())));
    Table::from([(scenario(IN_BOTH), BTreeMap::from(row))])
}

#[test]
fn a_test_s_path_says_which_scenario_it_is_and_where_it_runs() {
    let found = |path| {
        let ((module, name), place) = report::scenario(path)?;
        Some((format!("{module}::{name}"), place))
    };
    let plain = Place::RabbitMq { over_tls: false };
    let tls = Place::RabbitMq { over_tls: true };
    let paths = [
        ("scenarios::embedded::rpc::x", "rpc::x", Place::Embedded),
        ("rabbitmq::rpc::x", "rpc::x", plain),
        ("rabbitmq::over_tls::rpc::x", "rpc::x", tls),
        ("not_embedded::streams::x", "streams::x", plain),
        ("only_embedded::restoring::x", "restoring::x", Place::Embedded),
        ("with_ctl::alone::over_tls::alarms::x", "alarms::x", tls),
        (
            "securing::over_tls::x::with_client_certificate::on_rabbitmq",
            "securing::x",
            tls,
        ),
    ];
    for (path, expected, place) in paths {
        assert_eq!(found(path), Some((expected.to_owned(), place)), "{path}");
    }
    assert_eq!(found("scenarios::operator::tests::x"), None);
}

#[test]
fn test_programs_are_found_among_what_cargo_says() {
    let messages = r#"{"reason":"compiler-artifact","package_id":"path+file:///c/amqp-mio#0.1.0","executable":null}
{"reason":"compiler-artifact","package_id":"path+file:///c/amqp-mio#0.1.0","executable":"/c/target/debug/deps/scenarios-1"}
{"reason":"compiler-artifact","package_id":"path+file:///c/xtask#0.1.0","executable":"/c/target/debug/xtask"}
{"reason":"build-finished","success":true}"#;
    let expected = (
        "amqp-mio".to_owned(),
        "/c/target/debug/deps/scenarios-1".to_owned(),
    );
    assert_eq!(programs(messages), [expected]);
}

#[test]
fn runs_add_up_and_what_nobody_has_counts_for_nothing() {
    let runs = [
        (
            "embedded",
            "amqp-tokio scenarios::embedded::publishing::tokio_and_mio\n",
        ),
        (
            "rabbitmq-3.10.8",
            "amqp-tokio scenarios::rabbitmq::publishing::tokio_and_mio\n",
        ),
        (
            "rabbitmq-4.3.6",
            "amqp-mio scenarios::rabbitmq::over_tls::publishing::tokio_and_mio\namqp-mio scenarios::rabbitmq::gone::gone\n\
             amqp-async-std scenarios::rabbitmq::publishing::tokio_and_mio\ntorn\n",
        ),
    ];
    let runs = runs.map(|(name, lines)| (name.to_owned(), lines.to_owned()));
    let reported = Reported(runs.to_vec());
    let expected = table(&[Column::Embedded, RABBITMQ_3], &[RABBITMQ_4]);
    assert_eq!(reported.table(&planned()), expected);
    let releases = [(3, "3.10.8".to_owned()), (4, "4.3.6".to_owned())];
    assert_eq!(reported.releases(), releases);
}

#[test]
fn what_is_written_is_read_and_says_what_was_not_run() {
    let table = table(&[Column::Embedded, RABBITMQ_3, RABBITMQ_4], &[]);
    let page = page::render(&planned(), &table, &[(3, "3.10.8".to_owned())]);
    assert_eq!(page::parse(&page), table);
    let row = "| `tokio_and_mio` | E 3 4s; not run: 3s 4 | – | – | not run: E 3 3s 4 4s |";
    assert!(page.lines().any(|line| line == row), "{page}");
    assert!(
        page.contains("| RabbitMQ 3, plain and over TLS | 3.10.8 |"),
        "{page}"
    );
    assert!(
        page.contains("| RabbitMQ 4, plain and over TLS | not run |"),
        "{page}"
    );
}

#[test]
fn a_difference_is_told_if_it_is_on_a_broker_of_this_run() {
    let passed = table(&[Column::Embedded, RABBITMQ_3], &[Column::Embedded]);
    let page = page::render(&planned(), &passed, &[]);
    let brokers = set([Column::Embedded, RABBITMQ_3]);
    let told = |produced: &Table| differences(&page, &planned(), produced, &brokers);
    assert_eq!(told(&passed), [""; 0]);
    let elsewhere = table(&[Column::Embedded, RABBITMQ_3, RABBITMQ_4], &[Column::Embedded]);
    assert_eq!(told(&elsewhere), [""; 0]);
    let less = table(&[Column::Embedded], &[Column::Embedded]);
    let difference = "publishing::tokio_and_mio on amqp-tokio: docs/parity.md says E 3, this run says E";
    assert_eq!(told(&less), [difference]);
    let nothing = table(&[Column::Embedded, RABBITMQ_3], &[]);
    let difference = "publishing::tokio_and_mio on amqp-mio: docs/parity.md says E, this run says nothing";
    assert_eq!(told(&nothing), [difference]);
}

#[test]
fn rows_and_cells_that_come_and_go_are_differences() {
    let passed = table(&[Column::Embedded], &[Column::Embedded]);
    let page = page::render(&planned(), &passed, &[]);
    let brokers = set([Column::Embedded]);
    let mut without_mio = planned();
    without_mio
        .values_mut()
        .for_each(|row| drop(row.remove("amqp-mio")));
    assert_eq!(
        differences(&page, &without_mio, &passed, &brokers),
        ["publishing::tokio_and_mio on amqp-mio: docs/parity.md says E, this run says a gap"]
    );
    assert_eq!(
        differences(&page, &Plan::new(), &Table::new(), &brokers),
        ["docs/parity.md has publishing::tokio_and_mio, which no adapter has"]
    );
    let told = differences("", &planned(), &passed, &brokers);
    assert_eq!(
        told,
        [
            "publishing::tokio_and_mio on amqp-tokio: docs/parity.md says a gap, this run says E",
            "publishing::tokio_and_mio on amqp-mio: docs/parity.md says a gap, this run says E",
        ]
    );
}

#[test]
fn what_one_adapter_has_and_another_one_lacks_is_a_gap() {
    let gaps_are = ["amqp-async-std", "amqp-blocking"]
        .map(|adapter| format!("{adapter} has no scenario publishing::tokio_and_mio"));
    assert_eq!(gaps(&planned()), gaps_are);
}

#[test]
fn the_page_has_no_gap() {
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let table = page::parse(&page);
    assert!(table.len() > 110, "does it still have its form? {}", table.len());
    for (scenario, row) in table {
        assert_eq!(row.len(), ADAPTERS.len(), "{scenario:?}");
        assert!(row.values().all(|passed| !passed.is_empty()), "{scenario:?}");
    }
}
