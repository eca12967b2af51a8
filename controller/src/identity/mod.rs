//! Who is who: the controller's own CA, the certificates it issues, the secrets that let somebody in.
//!
//! A sidecar proves its pod once, with a join token that is bound to the pod's UID, and gets a short-lived
//! certificate for the key it made itself. The certificate names the service account (SPIFFE) and the pod.

mod authority;
mod names;
pub mod secret;
mod server;

pub use authority::{Authority, AuthorityError, Issued};
pub use names::{IdentityError, PodIdentity, check_name, not_after_seconds};
pub use server::{ServerCertificate, tls_for_people, tls_for_sidecars};
