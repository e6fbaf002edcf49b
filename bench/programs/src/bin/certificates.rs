//! Issues certificates for links on one machine: `certificates DIR`.
//!
//! `ca.pem` is the certificate of a new authority. `node.pem` is a certificate, signed by this authority, for
//! `localhost` and the loopback address; `node.key` is the key of `node.pem`. The certificates are for benchmarks only:
//! the authority's key is discarded.

use std::error::Error;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir] = arguments.as_slice() else { return Err("usage: certificates DIR".into()) };
    let dir = Path::new(dir);
    std::fs::create_dir_all(dir)?;
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(dir.join("ca.pem"), authority.self_signed(&authority_key)?.pem())?;
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate()?;
    let names = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
    let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    std::fs::write(dir.join("node.pem"), certificate.pem())?;
    std::fs::write(dir.join("node.key"), key.serialize_pem())?;
    Ok(())
}
