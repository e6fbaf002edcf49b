//! Apps in archives: complete, reproducible, and checked like those from a registry.

use isomer_parcel::artifact::AppArtifact;
use isomer_registry::{ArchiveError, Referrer, read_archive, write_archive};
use tar::{Builder, EntryType, Header};

use crate::app::shop;

fn signature() -> Referrer {
    Referrer {
        artifact_type: "application/vnd.dev.sigstore.bundle.v0.3+json".to_owned(),
        predicate_type: Some("https://sigstore.dev/cosign/sign/v1".to_owned()),
        content: "{\"a\":1}".into(),
    }
}

fn archive() -> Vec<u8> {
    let mut bytes = Vec::new();
    write_archive(&mut bytes, &shop(), &[signature()], Some("1.0.0")).unwrap();
    bytes
}

/// Returns the archive with each entry as `change` returns it, or without it.
fn changed(change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) -> Vec<u8> {
    let bytes = archive();
    let mut out = Builder::new(Vec::new());
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().to_vec()).unwrap();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        if let Some(content) = change(&name, content) {
            append(&mut out, &name, &content, EntryType::Regular);
        }
    }
    out.into_inner().unwrap()
}

fn append(out: &mut Builder<Vec<u8>>, name: &str, content: &[u8], kind: EntryType) {
    let mut header = Header::new_ustar();
    header.set_size(content.len() as u64);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    out.append_data(&mut header, name, content).unwrap();
}

fn refused(bytes: &[u8]) -> ArchiveError {
    read_archive(bytes, "monolith").err().unwrap()
}

#[test]
fn an_app_survives_an_archive() {
    let bytes = archive();
    assert_eq!(bytes, archive(), "the archive follows from its content");
    let (app, referrers) = read_archive(bytes.as_slice(), "monolith").unwrap();
    assert_eq!((app.contents.release, app.contents.parts), (shop().release, shop().parts));
    assert_eq!(app.digest, AppArtifact::of(&shop().release).unwrap().digest);
    assert_eq!(referrers, [signature()]);
}

#[test]
fn a_damaged_archive_is_refused() {
    let component = isomer_parcel::artifact::sha256(b"\0asm cart").to_string();
    let altered = changed(|name, content| match name.ends_with(&component) {
        true => Some(b"\0asm evil".to_vec()),
        false => Some(content),
    });
    assert!(matches!(refused(&altered), ArchiveError::Digest { expected, .. } if expected == component));
    for missing in ["oci-layout", "index.json", component.as_str()] {
        let error = refused(&changed(|name, content| (!name.ends_with(missing)).then_some(content)));
        assert!(matches!(&error, ArchiveError::Malformed(problem) if problem.contains("missing")), "{error}");
    }
    let none = changed(|name, content| match name {
        "index.json" => Some(b"{\"schemaVersion\":2,\"manifests\":[]}".to_vec()),
        _ => Some(content),
    });
    assert!(refused(&none).to_string().contains("0 apps"));
    let future = changed(|name, content| match name {
        "oci-layout" => Some(b"{\"imageLayoutVersion\":\"2.0.0\"}".to_vec()),
        _ => Some(content),
    });
    assert!(matches!(refused(&future), ArchiveError::Malformed(_)));
    let whole = archive();
    for length in (0..whole.len()).step_by(64) {
        // Without its last blocks, which are only zeros, an archive is still complete.
        if let Ok((app, _)) = read_archive(&whole[..length], "monolith") {
            assert_eq!(app.contents.parts, shop().parts, "{length}");
        }
    }
}

#[test]
fn entries_that_are_not_part_of_a_layout_are_ignored() {
    // The end of an archive is marked by zeros, so the new entries come first.
    let mut first = Builder::new(Vec::new());
    append(&mut first, "etc/passwd", b"x", EntryType::Regular);
    append(&mut first, "blobs/sha256/link", b"", EntryType::Symlink);
    let mut bytes = first.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(archive());
    assert_eq!(read_archive(bytes.as_slice(), "monolith").unwrap().0.contents.parts, shop().parts);
    // A header with a size that exceeds the limit for an app.
    let mut header = Header::new_ustar();
    header.set_path("index.json").unwrap();
    header.set_size(1 << 40);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    let error = refused(header.as_bytes());
    assert!(matches!(&error, ArchiveError::Malformed(problem) if problem.contains("larger")), "{error}");
}

#[test]
fn an_index_and_manifests_without_end_are_refused() {
    let whole = archive();
    let index = |entries: usize| {
        changed(|name, content| match name {
            "index.json" => {
                let mut index: serde_json::Value = serde_json::from_slice(&content).unwrap();
                let last = index["manifests"].as_array().unwrap().last().unwrap().clone();
                index["manifests"].as_array_mut().unwrap().extend(vec![last; entries]);
                Some(serde_json::to_vec(&index).unwrap())
            }
            _ => Some(content),
        })
    };
    // An entry that is repeated counts once.
    assert_eq!(read_archive(index(50).as_slice(), "monolith").unwrap().1, [signature()]);
    let error = refused(&index(30_000));
    assert!(error.to_string().contains("is larger than") || error.to_string().contains("too many entries"), "{error}");
    assert!(refused(&index(200)).to_string().contains("too many entries"));
    // A manifest that is larger than manifests in a registry may be.
    let large = isomer_parcel::artifact::sha256(&vec![b' '; 5 << 20]).to_string();
    let mut first = Builder::new(Vec::new());
    append(&mut first, &format!("blobs/sha256/{large}"), &vec![b' '; 5 << 20], EntryType::Regular);
    let mut bytes = first.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(changed(|name, content| match name {
        "index.json" => {
            let mut index: serde_json::Value = serde_json::from_slice(&content).unwrap();
            let mut entry = index["manifests"][0].clone();
            entry["digest"] = format!("sha256:{large}").into();
            index["manifests"].as_array_mut().unwrap().push(entry);
            Some(serde_json::to_vec(&index).unwrap())
        }
        _ => Some(content),
    }));
    assert!(refused(&bytes).to_string().contains("a manifest is too large"));
    // An extension header: a long name, of which only the size is looked at.
    let mut header = Header::new_gnu();
    header.set_path("././@LongLink").unwrap();
    header.set_entry_type(EntryType::GNULongName);
    header.set_size(1 << 40);
    header.set_cksum();
    let error = refused(&[header.as_bytes(), whole.as_slice()].concat());
    assert!(error.to_string().contains("it is larger than"), "{error}");
    // A small one is skipped.
    let mut first = Builder::new(Vec::new());
    append(&mut first, "long", b"blobs/sha256/x\0", EntryType::GNULongName);
    append(&mut first, "pax", b"12 size=999\n", EntryType::XHeader);
    let mut bytes = first.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(&whole);
    assert_eq!(read_archive(bytes.as_slice(), "monolith").unwrap().1, [signature()]);
}
