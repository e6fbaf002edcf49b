//! Tests of the format of shipped programs: written programs can be read again, and damaged files are refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;

use bytes::Bytes;
use isomer_api::Release;
use isomer_parcel::exe::{
    Base, BaseError, ExeContents, LOCATOR_BYTES, Locator, Machine, Payload, PayloadError, ProgramError, SECTION_BYTES,
    ShippedCodePart, VerifiedProgram, write_exe,
};
use isomer_parcel::{Contents, add_part, release_digest};
use proptest::prelude::*;

const X86_64: u16 = 62;
const AARCH64: u16 = 183;

/// The offset of the section `.isomer` in the programs of these tests.
const SECTION_AT: usize = 64;

/// Returns a small ELF file with a section `.isomer`.
fn program(machine: u16, section: &[u8]) -> Vec<u8> {
    let names = b"\0.isomer\0.shstrtab\0";
    let names_at = SECTION_AT + section.len();
    let headers_at = (names_at + names.len()).next_multiple_of(8);
    let mut file = vec![0; headers_at];
    file[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
    file[16..18].copy_from_slice(&3_u16.to_le_bytes());
    file[18..20].copy_from_slice(&machine.to_le_bytes());
    file[20..24].copy_from_slice(&1_u32.to_le_bytes());
    file[40..48].copy_from_slice(&(headers_at as u64).to_le_bytes());
    file[52..54].copy_from_slice(&64_u16.to_le_bytes());
    file[58..60].copy_from_slice(&64_u16.to_le_bytes());
    file[60..62].copy_from_slice(&3_u16.to_le_bytes());
    file[62..64].copy_from_slice(&2_u16.to_le_bytes());
    file[SECTION_AT..names_at].copy_from_slice(section);
    file[names_at..names_at + names.len()].copy_from_slice(names);
    let mut header = |name: u32, kind: u32, at: usize, bytes: usize| {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(bytes as u64).to_le_bytes());
        file.extend(header);
    };
    header(0, 0, 0, 0);
    header(1, 1, SECTION_AT, section.len());
    header(9, 3, names_at, names.len());
    file
}

fn program_without_app() -> Vec<u8> {
    program(X86_64, &Locator::section("1.2.3"))
}

fn base() -> Base {
    Base::parse(program_without_app()).unwrap()
}

fn contents() -> ExeContents {
    let mut parts = BTreeMap::new();
    let components = [("shop".to_owned(), add_part(&mut parts, Bytes::from_static(b"a component")))].into();
    let files = [("static/index.html".parse().unwrap(), add_part(&mut parts, Bytes::from_static(b"<h1>")))].into();
    let release = Release {
        manifest: "[app]\nname = \"shop\"".to_owned(),
        shape: "monolith".to_owned(),
        components,
        files,
        folders: ["uploads".parse().unwrap()].into(),
        hosts: None,
        message: None,
        signatures: Vec::new(),
    };
    let code = ShippedCodePart { code: Bytes::from(vec![7; 300_000]), note: Bytes::from_static(b"{}") };
    ExeContents {
        contents: Contents { release, parts },
        isomer: "1.2.3".to_owned(),
        target: "x86-64-v2".to_owned(),
        code: [("k".repeat(64), code)].into(),
        sbom: Some(Bytes::from_static(b"{\"bomFormat\":\"CycloneDX\"}")),
    }
}

fn written() -> Vec<u8> {
    let mut file = Vec::new();
    let length = write_exe(&base(), contents(), &mut file).unwrap();
    assert_eq!(length, file.len() as u64);
    file
}

/// Opens a program as the program itself does: with the locator of its own section.
fn open(file: &[u8], locator: &[u8]) -> Option<Result<Payload, PayloadError>> {
    let locator = Locator::parse(locator.first_chunk::<LOCATOR_BYTES>().unwrap()).ok()??;
    let mut on_disk: File = tempfile::tempfile().unwrap();
    on_disk.write_all(file).unwrap();
    Some(Payload::open(on_disk, locator))
}

fn locator_of(file: &[u8]) -> Vec<u8> {
    file[SECTION_AT..SECTION_AT + LOCATOR_BYTES].to_vec()
}

#[test]
fn a_program_contains_what_was_written() {
    let file = written();
    let payload = open(&file, &locator_of(&file)).unwrap().unwrap();
    let (index, expected) = (payload.index(), contents());
    assert_eq!(index.release, expected.contents.release);
    assert_eq!(index.digest, release_digest(&expected.contents.release));
    assert_eq!((index.isomer.as_str(), index.target.as_str()), ("1.2.3", "x86-64-v2"));
    for (digest, bytes) in &expected.contents.parts {
        assert_eq!(&payload.read(digest).unwrap(), bytes);
    }
    let entry = &index.code[&"k".repeat(64)];
    let mut code = Vec::new();
    payload.copy(&entry.code, &mut code).unwrap();
    assert_eq!((code, payload.read(&entry.note).unwrap()), (vec![7; 300_000], b"{}".to_vec()));
    assert!(payload.read(index.sbom.as_ref().unwrap()).unwrap().starts_with(b"{\"bomFormat\""));
    payload.verify().unwrap();
    assert_eq!(file, written(), "the same contents give other bytes");
    let missing = isomer_ids::Digest::from([7; 32]);
    assert!(matches!(payload.read(&missing), Err(PayloadError::Missing { digest }) if digest == missing));
}

#[test]
fn a_whole_program_is_verified() {
    let file = written();
    let program = VerifiedProgram::verify(file.clone()).unwrap();
    assert_eq!((program.bytes.as_ref(), program.base.isomer()), (file.as_slice(), "1.2.3"));
    let runtime = program_without_app();
    assert!(matches!(VerifiedProgram::verify(runtime), Err(ProgramError::NoPayload)));
    let mut altered = file;
    let at = base().len().next_multiple_of(4096) as usize;
    altered[at] ^= 1;
    let verified = VerifiedProgram::verify(altered);
    assert!(matches!(verified, Err(ProgramError::Payload(PayloadError::Altered { .. }))), "{verified:?}");
}

/// Reading a device would not end.
#[test]
fn only_files_are_read() {
    for path in ["/dev/zero", "/"] {
        let read = VerifiedProgram::read(std::path::Path::new(path));
        assert!(matches!(read, Err(ProgramError::NotAFile)), "{read:?}");
    }
    let mut huge = tempfile::NamedTempFile::new().unwrap();
    huge.write_all(b"x").unwrap();
    huge.as_file().set_len(5 << 30).unwrap();
    let read = VerifiedProgram::read(huge.path());
    assert!(matches!(read, Err(ProgramError::TooLarge { bytes: 5_368_709_120 })), "{read:?}");
}

#[test]
fn a_shipped_program_is_a_base_without_its_app() {
    let file = written();
    let again = Base::parse(file.clone()).unwrap();
    assert_eq!((again.machine(), again.isomer()), (Machine::X86_64, "1.2.3"));
    let mut second = Vec::new();
    write_exe(&again, contents(), &mut second).unwrap();
    assert_eq!(second, file);
}

#[test]
fn bases_are_programs_with_a_section() {
    let aarch64 = Base::parse(program(AARCH64, &Locator::section("1.2.3"))).unwrap();
    assert_eq!(aarch64.machine(), Machine::Aarch64);
    assert_eq!(Base::parse(b"#!/bin/sh".to_vec()).unwrap_err(), BaseError::NotElf);
    assert_eq!(Base::parse(program(3, &Locator::section("1"))).unwrap_err(), BaseError::Machine(3));
    assert_eq!(Base::parse(program(X86_64, &[0; SECTION_BYTES])).unwrap_err(), BaseError::Locator);
    assert_eq!(Base::parse(program(X86_64, &[0; 10])).unwrap_err(), BaseError::NoLocator);
    let mut other_name = program(X86_64, &Locator::section("1"));
    other_name[SECTION_AT + SECTION_BYTES + 2] = b'x';
    assert_eq!(Base::parse(other_name).unwrap_err(), BaseError::NoLocator);
}

#[test]
fn a_program_whose_release_lacks_a_part_is_not_written() {
    let mut incomplete = contents();
    let digest = incomplete.contents.release.components["shop"].digest.clone();
    incomplete.contents.parts.remove(&digest);
    assert!(write_exe(&base(), incomplete, &mut Vec::new()).is_err());
}

#[test]
fn lost_and_truncated_payloads_are_told_apart() {
    let (file, base_bytes) = (written(), base().len() as usize);
    let locator = locator_of(&file);
    let opened = |length: usize| open(&file[..length], &locator).unwrap();
    assert!(matches!(opened(base_bytes), Err(PayloadError::Lost)));
    assert!(matches!(opened(4096), Err(PayloadError::Lost)));
    assert!(matches!(opened(file.len() - 3), Err(PayloadError::Truncated { missing: 3 })));
    let appended = [file.as_slice(), b"a signature"].concat();
    open(&appended, &locator).unwrap().unwrap().verify().unwrap();
}

proptest! {
    /// Every change of a program's payload is detected, and none causes a panic.
    #[test]
    fn every_altered_byte_is_found(at in any::<prop::sample::Index>(), change in 1..=255_u8) {
        let mut file = written();
        let locator = locator_of(&file);
        let payload = base().len().next_multiple_of(4096) as usize;
        let at = payload + at.index(file.len() - payload);
        file[at] ^= change;
        let verified = open(&file, &locator).unwrap().and_then(|payload| payload.verify());
        let is_altered = matches!(verified, Err(PayloadError::Altered { .. }));
        prop_assert!(is_altered, "byte {at}");
    }

    #[test]
    fn every_truncated_program_is_refused(length in any::<prop::sample::Index>()) {
        let file = written();
        let locator = locator_of(&file);
        let opened = open(&file[..length.index(file.len())], &locator).unwrap();
        let is_incomplete = matches!(opened, Err(PayloadError::Lost | PayloadError::Truncated { .. }));
        prop_assert!(is_incomplete);
    }

    /// A locator or an index from another source is refused, or describes parts inside of the file.
    #[test]
    fn hostile_locators_do_no_harm(tail in prop::collection::vec(any::<u8>(), LOCATOR_BYTES - 16)) {
        let file = written();
        let mut locator = locator_of(&file);
        locator[16..].copy_from_slice(&tail);
        if let Some(opened) = open(&file, &locator) {
            prop_assert!(opened.is_err());
        }
    }

    #[test]
    fn hostile_indexes_do_no_harm(at in any::<prop::sample::Index>(), change in 1..=255_u8) {
        let file = written();
        let mut locator = Locator::parse(locator_of(&file).first_chunk().unwrap()).unwrap().unwrap();
        let index_at = (locator.offset + locator.parts_bytes()) as usize;
        let mut altered = file.clone();
        altered[index_at + at.index(file.len() - index_at)] ^= change;
        // The attacker also replaces the digest of the index.
        locator.index_digest = sha2::Digest::finalize(sha2::Digest::chain_update(
            <sha2::Sha256 as sha2::Digest>::new(),
            &altered[index_at..],
        )).into();
        if let Some(Ok(payload)) = open(&altered, &locator.to_bytes()) {
            let _ = payload.verify();
        }
    }

    #[test]
    fn hostile_programs_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600), at in any::<prop::sample::Index>()) {
        let _ = Base::parse(bytes.clone());
        let mut program = program(X86_64, &Locator::section("1.2.3"));
        let at = at.index(program.len());
        let end = (at + bytes.len()).min(program.len());
        program[at..end].copy_from_slice(&bytes[..end - at]);
        if let Ok(base) = Base::parse(program) {
            let _ = write_exe(&base, contents(), &mut Vec::new());
        }
    }
}
