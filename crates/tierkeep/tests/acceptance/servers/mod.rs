//! Servers as enterprises have them: TLS with an authority of their own, users with few rights, X.509, other products.

mod flow;
mod products;
mod rights;
mod secured;
mod tls;
