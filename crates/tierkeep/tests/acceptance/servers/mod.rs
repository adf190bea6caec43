//! Servers in enterprises: TLS with a private authority, users with least rights, X.509, other products.

mod flow;
mod products;
mod rights;
mod secured;
mod tls;
