//! Tests of a node's state: rules for names, what is kept when the state is opened again, and which changes are
//! refused.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use isomer_api::{QuotaChange, StoredToken, TenantChange, TokenInfo, TokenRole};
use isomer_ids::{AppName, Digest, ReleaseDigest, TenantName};
use isomer_state::model::{REVISIONS_MAX, TOKENS_MAX};
use isomer_state::{Contents, Deployment, NodeState, Secret, StateError, Taking};

fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

fn app(name: &str) -> AppName {
    name.parse().unwrap()
}

fn revision(number: u8) -> ReleaseDigest {
    ReleaseDigest::from([number; 16])
}

fn contents(number: u8) -> Contents {
    Contents {
        package: vec![number; 100],
        blobs: [Digest::from([number; 32]), Digest::from([0; 32])].into(),
        code: [format!("code-{number}")].into(),
    }
}

fn taking(of: &str, name: &str, number: u8, hosts: Option<&[&str]>) -> Taking {
    Taking {
        tenant: tenant(of),
        app: app(name),
        hosts: hosts.map(|hosts| hosts.iter().map(|host| host.parse().unwrap()).collect()),
        deployment: Deployment {
            revision: revision(number),
            version: "1.0.0".to_owned(),
            shape: Some("monolith".to_owned()),
            deployed_at: number.into(),
            origin: None,
            replacement: None,
        },
        contents: contents(number),
        charge: 100,
        charges_max: u64::MAX,
        secrets: BTreeSet::new(),
    }
}

fn with_tenants(path: &Path, names: &[&str]) -> NodeState {
    let state = NodeState::open(path).unwrap();
    for name in names {
        state.set_tenant(&tenant(name), TenantChange::default()).unwrap();
    }
    state
}

fn hosts(names: &[&str]) -> TenantChange {
    TenantChange { hosts: Some(names.iter().map(|name| name.parse().unwrap()).collect()), ..TenantChange::default() }
}

#[test]
fn everything_survives_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let state = with_tenants(&path, &["acme"]);
    let quotas = QuotaChange { apps: Some(3), ..QuotaChange::default() };
    state.set_tenant(&tenant("acme"), TenantChange { quotas, ..hosts(&["*.acme.example"]) }).unwrap();
    state.set_secret(&tenant("acme"), "key", &Secret::new(b"sesame".to_vec())).unwrap();
    state.take_over(taking("acme", "shop", 1, Some(&["shop.acme.example"]))).unwrap();
    state.take_over(taking("acme", "shop", 2, None)).unwrap();
    state.set_stopped(&tenant("acme"), &app("shop"), true).unwrap();
    let (tenants, apps) = (state.tenants(), state.apps());
    drop(state);
    let state = NodeState::open(&path).unwrap();
    assert_eq!((state.tenants(), state.apps()), (tenants, apps));
    let kept = state.tenant(&tenant("acme")).unwrap();
    assert_eq!((kept.quotas.apps, kept.secrets.iter().next().unwrap().as_str()), (3, "key"));
    assert_eq!(state.secrets(&tenant("acme")).unwrap()["key"].reveal(), b"sesame");
    let shop = state.app(&tenant("acme"), &app("shop")).unwrap();
    assert!(shop.stopped && shop.hosts[0].as_str() == "shop.acme.example");
    assert_eq!(shop.history.iter().map(|one| one.deployed_at).collect::<Vec<_>>(), [2, 1]);
    assert_eq!(state.package(&revision(1)).unwrap().unwrap(), contents(1).package);
    // Host names are still claimed after the state has been opened again.
    state.set_tenant(&tenant("evil"), TenantChange::default()).unwrap();
    for taken in ["shop.acme.example", "other.acme.example", "*.example"] {
        let refused = state.take_over(taking("evil", "shop", 3, Some(&[taken]))).unwrap_err();
        assert!(matches!(refused, StateError::HostTaken { .. }), "{taken}: {refused}");
    }
    assert!(state.set_tenant(&tenant("evil"), hosts(&["x.acme.example"])).is_err());
}

#[test]
fn a_refused_change_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let state = with_tenants(&folder.path().join("state.redb"), &["acme", "evil"]);
    state.take_over(taking("acme", "shop", 1, Some(&["shop.example"]))).unwrap();
    let before = (state.tenants(), state.apps());
    let refused = state.take_over(taking("evil", "shop", 2, Some(&["free.example", "shop.example"]))).unwrap_err();
    assert!(refused.to_string().contains("`shop.example` is taken: app `shop` of tenant `acme`"), "{refused}");
    assert!(state.take_over(taking("unknown", "shop", 2, None)).is_err());
    assert!(matches!(state.remove_tenant(&tenant("acme")), Err(StateError::HasApps { .. })));
    assert!(matches!(state.remove_app(&tenant("evil"), &app("shop")), Err(StateError::NoApp { .. })));
    assert!(matches!(state.remove_secret(&tenant("acme"), "key", || Ok(())), Err(StateError::NoSecret { .. })));
    assert_eq!((state.tenants(), state.apps()), before);
    assert_eq!(state.package(&revision(2)).unwrap(), None);
    // The refused change has not claimed its first host name.
    state.take_over(taking("acme", "other", 1, Some(&["free.example"]))).unwrap();
}

#[test]
fn apps_are_limited_by_the_quota() {
    let folder = tempfile::tempdir().unwrap();
    let state = with_tenants(&folder.path().join("state.redb"), &["acme"]);
    let quotas = QuotaChange { apps: Some(1), ..QuotaChange::default() };
    state.set_tenant(&tenant("acme"), TenantChange { quotas, hosts: None }).unwrap();
    state.take_over(taking("acme", "one", 1, None)).unwrap();
    let refused = state.take_over(taking("acme", "two", 1, None)).unwrap_err();
    assert!(matches!(refused, StateError::TooManyApps { apps_max: 1, .. }), "{refused}");
    state.take_over(taking("acme", "one", 2, None)).unwrap();
    state.remove_app(&tenant("acme"), &app("one")).unwrap();
    state.take_over(taking("acme", "two", 1, None)).unwrap();
}

#[test]
fn a_release_is_kept_while_an_app_can_roll_back_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let state = with_tenants(&path, &["acme", "other"]);
    state.take_over(taking("acme", "shop", 1, None)).unwrap();
    state.take_over(taking("other", "shop", 1, None)).unwrap();
    for number in 2..=u8::try_from(REVISIONS_MAX + 3).unwrap() {
        state.take_over(taking("acme", "shop", number, None)).unwrap();
    }
    // A rollback moves the release to the front of the history, and does not list it twice.
    state.take_over(taking("acme", "shop", 12, None)).unwrap();
    drop(state);
    let state = NodeState::open(&path).unwrap();
    let shop = state.app(&tenant("acme"), &app("shop")).unwrap();
    let numbers = shop.history.iter().map(|one| one.deployed_at).collect::<Vec<_>>();
    assert_eq!(numbers, [12, 13, 11, 10, 9, 8, 7, 6, 5, 4]);
    let kept = |state: &NodeState| {
        let mut kept =
            (1..=13).filter(|number| state.package(&revision(*number)).unwrap().is_some()).collect::<Vec<_>>();
        kept.sort_unstable();
        kept
    };
    assert_eq!(kept(&state), [1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13], "2 and 3 are out of reach, 1 is the other's");
    state.remove_app(&tenant("other"), &app("shop")).unwrap();
    assert_eq!(kept(&state), [4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    let references = state.references().unwrap();
    assert!(references.blobs.contains(&Digest::from([4; 32])) && !references.blobs.contains(&Digest::from([1; 32])));
    assert!(references.code.contains("code-13") && references.revisions.len() == 10);
    state.remove_app(&tenant("acme"), &app("shop")).unwrap();
    assert_eq!(kept(&state), [0_u8; 0]);
    assert!(state.references().unwrap().blobs.is_empty());
    state.remove_tenant(&tenant("acme")).unwrap();
}

#[test]
fn a_removed_tenant_leaves_no_names_and_no_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let state = with_tenants(&folder.path().join("state.redb"), &["acme", "acme-2"]);
    state.set_tenant(&tenant("acme"), hosts(&["acme.example"])).unwrap();
    for of in ["acme", "acme-2"] {
        state.set_secret(&tenant(of), "key", &Secret::new(of.as_bytes().to_vec())).unwrap();
    }
    state.remove_tenant(&tenant("acme")).unwrap();
    state.set_tenant(&tenant("acme-2"), hosts(&["acme.example"])).unwrap();
    state.set_tenant(&tenant("acme"), TenantChange::default()).unwrap();
    assert!(state.secrets(&tenant("acme")).unwrap().is_empty());
    assert_eq!(state.secrets(&tenant("acme-2")).unwrap()["key"].reveal(), b"acme-2");
}

#[test]
fn debug_output_contains_no_secret() {
    let secret = Secret::new(b"sesame".to_vec());
    assert!(!format!("{secret:?} {secret:#?}").contains("sesame"));
    assert!(!format!("{secret:?}").contains("115"), "the output does not contain the secret's bytes as numbers either");
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    fs::write(&path, "some other text, longer than the head of a database ".repeat(100)).unwrap();
    let error = NodeState::open(&path).unwrap_err();
    assert!(matches!(error, StateError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("state.redb"), "{error}");
    fs::remove_file(&path).unwrap();
    let database = redb::Database::create(&path).unwrap();
    let change = database.begin_write().unwrap();
    change.open_table(redb::TableDefinition::<&str, u64>::new("entries")).unwrap();
    change.commit().unwrap();
    drop(database);
    let error = NodeState::open(&path).unwrap_err();
    assert!(matches!(error, StateError::Foreign { .. }), "{error}");
    fs::remove_file(&path).unwrap();
    // An empty file remains if the first start was killed before it wrote anything.
    fs::write(&path, "").unwrap();
    let state = NodeState::open(&path).unwrap();
    let error = NodeState::open(&path).unwrap_err();
    assert!(matches!(error, StateError::InUse { .. }), "{error}");
    drop(state);
}

#[test]
fn a_truncated_file_is_reported_as_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let state = with_tenants(&path, &["acme"]);
    for number in 1..20 {
        state.take_over(taking("acme", &format!("a{number}"), number, None)).unwrap();
    }
    drop(state);
    let whole = fs::read(&path).unwrap();
    for length in [1, 64, 4096, whole.len() / 2, whole.len() - 4096] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = NodeState::open(&path).map(|state| state.counts()).unwrap_err();
        assert!(matches!(error, StateError::Damaged { .. }), "{length}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn the_file_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    drop(NodeState::open(&path).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

fn token(of: &str, name: &str, number: u8) -> StoredToken {
    let info = TokenInfo {
        name: name.parse().unwrap(),
        id: [number; 8].into(),
        tenant: tenant(of),
        role: TokenRole::Deploy,
        data: false,
        created_at: 7,
        expires_at: None,
    };
    StoredToken { info, digest: Digest::from([number; 32]) }
}

#[test]
fn tokens_are_kept_until_they_are_revoked_or_their_tenant_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let state = with_tenants(&path, &["acme", "other"]);
    for kept in [token("acme", "ci", 1), token("acme", "desk", 2), token("other", "ci", 3)] {
        state.add_token(&kept).unwrap();
    }
    let taken = |error| matches!(error, StateError::TokenTaken { .. });
    assert!(taken(state.add_token(&token("acme", "ci", 4)).unwrap_err()), "the name is taken");
    assert!(taken(state.add_token(&token("other", "new", 1)).unwrap_err()), "the id is taken");
    assert!(matches!(state.add_token(&token("unknown", "ci", 5)), Err(StateError::NoTenant(_))));
    assert!(matches!(state.tokens_of(&tenant("unknown")), Err(StateError::NoTenant(_))));
    drop(state);
    let state = NodeState::open(&path).unwrap();
    let names = |of: &str| -> Vec<String> {
        state.tokens_of(&tenant(of)).unwrap().iter().map(|token| token.info.name.to_string()).collect()
    };
    assert_eq!(names("acme"), ["ci", "desk"]);
    assert_eq!(state.token(&[1; 8].into()), Some(token("acme", "ci", 1)));
    state.remove_token(&tenant("acme"), &"ci".parse().unwrap()).unwrap();
    let again = state.remove_token(&tenant("acme"), &"ci".parse().unwrap());
    assert!(matches!(again, Err(StateError::NoToken { .. })));
    assert_eq!((state.token(&[1; 8].into()), names("other").len()), (None, 1));
    state.remove_tenant(&tenant("other")).unwrap();
    state.set_tenant(&tenant("other"), TenantChange::default()).unwrap();
    assert_eq!(
        (state.token(&[3; 8].into()), names("other").len()),
        (None, 0),
        "a new tenant of the same name has no tokens"
    );
    drop(state);
    let state = NodeState::open(&path).unwrap();
    assert!(state.token(&[1; 8].into()).is_none() && state.token(&[3; 8].into()).is_none());
    for number in 10..10 + u8::try_from(TOKENS_MAX).unwrap() - 1 {
        state.add_token(&token("acme", &format!("t{number}"), number)).unwrap();
    }
    let most = state.add_token(&token("acme", "last", 9)).unwrap_err();
    assert!(matches!(most, StateError::TooMany { what: "tokens", max: TOKENS_MAX }), "{most}");
}

#[test]
fn parts_of_a_tenant_are_those_of_its_own_releases() {
    let folder = tempfile::tempdir().unwrap();
    let state = with_tenants(&folder.path().join("state.redb"), &["acme", "other"]);
    state.take_over(taking("acme", "shop", 1, None)).unwrap();
    state.take_over(taking("acme", "shop", 2, None)).unwrap();
    state.take_over(taking("other", "shop", 3, None)).unwrap();
    let digests = |numbers: &[u8]| numbers.iter().map(|number| Digest::from([*number; 32])).collect::<BTreeSet<_>>();
    let left = |of: &str, wanted: &[u8]| state.parts_not_of(&tenant(of), &digests(wanted)).unwrap();
    assert_eq!(left("acme", &[0, 1, 2, 3, 4]), digests(&[3, 4]));
    assert_eq!(left("other", &[0, 1, 2, 3, 4]), digests(&[1, 2, 4]));
    assert_eq!(left("unknown", &[0, 1]), digests(&[0, 1]));
    assert_eq!(left("acme", &[]), digests(&[]));
    let of = |of: &str, without: Option<u8>, most: usize| {
        state.parts_of(&tenant(of), without.map(revision).as_ref(), most).unwrap()
    };
    assert_eq!(of("acme", None, 10), digests(&[0, 1, 2]));
    assert_eq!((of("acme", Some(1), 10), of("acme", Some(2), 10)), (digests(&[0, 2]), digests(&[0, 1])));
    assert_eq!(
        (of("acme", None, 0).len(), of("unknown", None, 10)),
        (2, digests(&[])),
        "reading stops after one revision"
    );
}

#[test]
fn a_tenant_is_charged_with_each_release_once_up_to_its_quota() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.redb");
    let state = with_tenants(&path, &["acme", "rival"]);
    let take = |of: &str, name: &str, number: u8, charges_max: u64| {
        state.take_over(Taking { charges_max, ..taking(of, name, number, None) })
    };
    take("acme", "shop", 1, 100).unwrap();
    take("acme", "other", 1, 100).unwrap();
    take("rival", "shop", 1, 100).unwrap();
    assert_eq!((state.charged(&tenant("acme")), state.charged(&tenant("rival"))), (100, 100));
    let refused = take("acme", "shop", 2, 199).unwrap_err();
    assert!(matches!(refused, StateError::NoRoom { charge: 200, max: 199, .. }), "{refused}");
    assert!(!state.has_revision(&revision(2)) && state.package(&revision(2)).unwrap().is_none());
    take("acme", "shop", 2, 200).unwrap();
    // A release that adds no charge is accepted even if the maximum is exceeded.
    take("acme", "shop", 1, 0).unwrap();
    assert_eq!(state.charged(&tenant("acme")), 200);
    let most = u8::try_from(REVISIONS_MAX).unwrap();
    for number in 3..=most {
        take("acme", "shop", number, u64::MAX).unwrap();
    }
    assert_eq!(state.charged(&tenant("acme")), 1000);
    // Revision 2 is the oldest one and is dropped, because revision 1 took over again after it.
    assert_eq!(state.charged_with(&tenant("acme"), &app("shop"), &revision(most + 1), 100), 1000);
    take("acme", "shop", most + 1, 0).unwrap();
    drop(state);
    let state = NodeState::open(&path).unwrap();
    assert_eq!((state.charged(&tenant("acme")), state.has_revision(&revision(2))), (1000, false));
    state.remove_app(&tenant("acme"), &app("shop")).unwrap();
    assert_eq!(state.charged(&tenant("acme")), 100, "another app has the first revision");
    state.remove_app(&tenant("acme"), &app("other")).unwrap();
    assert_eq!((state.charged(&tenant("acme")), state.charged(&tenant("rival"))), (0, 100));
}
