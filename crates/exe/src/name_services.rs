//! How a statically linked program looks up host names.
//!
//! `/etc/nsswitch.conf` names the sources of host names. All except `files` and `dns` are shared libraries, also in a
//! statically linked program, and they need the C library of the machine: the program then crashes at its first look-up unless
//! that library has the same version as the linked one.

/// Makes look-ups of host names use only `/etc/hosts` and DNS, if this program is linked statically with glibc. Called before
/// other threads start.
pub(crate) fn use_built_in() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if cfg!(target_feature = "crt-static") {
        configure();
    }
}

/// Returns whether the C library accepted the sources.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a function of the C library")]
fn configure() -> bool {
    use std::ffi::{c_char, c_int};

    unsafe extern "C" {
        /// Sets the sources of a database of names for this process, in place of those in `/etc/nsswitch.conf`.
        fn __nss_configure_lookup(database: *const c_char, sources: *const c_char) -> c_int;
    }
    // SAFETY: the function is a part of glibc's stable interface (`nss.h`), and has this type there. Both arguments are texts
    // that end with a zero and live as long as the program. The function reads them and keeps no reference to `sources`.
    unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) == 0 }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use std::net::ToSocketAddrs as _;

    /// The test is linked dynamically, so it shows only that glibc knows the function and its arguments, and that names are
    /// still found.
    #[test]
    fn names_are_looked_up_in_the_built_in_sources() {
        assert!(super::configure());
        assert!(("localhost", 80).to_socket_addrs().unwrap().all(|address| address.ip().is_loopback()));
    }
}
