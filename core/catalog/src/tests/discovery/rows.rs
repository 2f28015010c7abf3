//! Nodes, services and checks as rows.

use super::*;

#[test]
fn instances_of_a_service_share_what_they_have_in_common() {
    let mut bench = Bench::new();
    for name in ["a", "b"] {
        let registration = on(
            name,
            Some(ServiceDef {
                tags: ["t".into()].into(),
                meta: [("k", "v".into())].into_iter().collect(),
                ..service("", "web")
            }),
            vec![check("c", "web", Status::Passing)],
        );
        // As it comes from the log: nothing of it is shared.
        let bytes = command(Action::Register(Box::new(registration))).encode();
        let command = Command::decode(&bytes).unwrap();
        bench.apply(command.action);
    }
    let again = rebuilt(rows(&bench.state), bench.state.index()).unwrap();
    for state in [&bench.state, &again] {
        let [a, b] = ["a", "b"].map(|node| state.service(node, "web").unwrap());
        assert!(Arc::ptr_eq(&a.def.name, &b.def.name));
        assert!(Arc::ptr_eq(&a.def.tags, &b.def.tags));
        let check = state.check("b", "c").unwrap();
        assert!(Arc::ptr_eq(&check.service_name, &b.def.name));
        assert!(Arc::ptr_eq(&check.node, &b.node));
    }
}

#[test]
fn rows_that_do_not_belong_together_are_refused() {
    let mut bench = Bench::new();
    register(
        &mut bench,
        Registration {
            node: identified(1, "n"),
            service: Some(service("", "web")),
            checks: vec![check("c", "web", Status::Passing)],
            ..Registration::default()
        },
    );
    register(&mut bench, of_node(identified(2, "m")));
    let all = rows(&bench.state);
    let named: Vec<_> = all.iter().map(|row| (row.table, &row.key[..])).collect();
    let expected: [(Table, &[u8]); 8] = [
        (Table::Meta, b"discovery-indexes"),
        (Table::Nodes, b"m"),
        (Table::Nodes, b"n"),
        (Table::Services, b"n\0web"),
        (Table::Checks, b"n\0c"),
        (Table::Marks, b"nm"),
        (Table::Marks, b"nn"),
        (Table::Marks, b"sweb"),
    ];
    assert_eq!(named, expected);
    let without = |at: usize| {
        let mut rows = all.clone();
        rows.remove(at);
        rebuilt(rows, Index(2)).unwrap_err()
    };
    let misfit = |table: Table, name: &str, detail: &'static str| RowError::Misfit {
        table,
        name: name.to_owned(),
        detail,
    };
    assert!(matches!(without(0), RowError::Inconsistent { .. }));
    assert_eq!(
        without(1),
        misfit(Table::Marks, "\"nm\"", "what it is about is missing")
    );
    assert_eq!(
        without(2),
        misfit(Table::Services, "\"n\\x00web\"", "its node is missing")
    );
    assert_eq!(
        without(3),
        misfit(Table::Checks, "\"n\\x00c\"", "its service is missing")
    );
    assert_eq!(without(5), misfit(Table::Marks, "\"\"", "some are missing"));
    assert_eq!(without(7), misfit(Table::Marks, "\"\"", "some are missing"));
    assert!(matches!(
        rebuilt(all.clone(), Index(1)),
        Err(RowError::Inconsistent { .. })
    ));

    let with = |at: usize, change: &dyn Fn(&mut Row)| {
        let mut rows = all.clone();
        change(&mut rows[at]);
        rebuilt(rows, Index(2)).unwrap_err().to_string()
    };
    let damaged = |table: &str, name: &str| {
        format!("row \"{name}\" of table {table} is damaged: it is that of another, ")
    };
    let renamed = |key: &'static str| move |row: &mut Row| row.key = bytes(key);
    assert!(with(1, &renamed("x")).starts_with(&damaged("Nodes", "x")));
    assert!(with(3, &renamed("n\0x")).starts_with(&damaged("Services", "n\\x00x")));
    assert!(with(4, &renamed("n\0x")).starts_with(&damaged("Checks", "n\\x00x")));
    assert!(with(7, &renamed("sx")).starts_with(&damaged("Marks", "sx")));
    assert!(with(7, &renamed("xx")).ends_with("its name says nothing"));
    assert!(with(3, &renamed("web")).ends_with("its name is not one"));
    let value = all[2].value.clone();
    let twins = with(1, &|row: &mut Row| {
        row.key = bytes("o");
        let mut bytes = value.clone().unwrap().to_vec();
        let name = bytes.windows(2).position(|pair| pair == b"\x01n").unwrap();
        bytes[name + 1] = b'o';
        row.value = Some(bytes.into());
    });
    assert!(twins.ends_with("another node has the same id"), "{twins}");
    let twice = [all.clone(), vec![all[3].clone()]].concat();
    assert!(matches!(
        rebuilt(twice, Index(2)),
        Err(RowError::Duplicate { .. })
    ));
    let twice = [all.clone(), vec![all[0].clone()]].concat();
    assert!(matches!(
        rebuilt(twice, Index(2)),
        Err(RowError::Duplicate { .. })
    ));
}
