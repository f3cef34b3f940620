//! The endpoints as callers see them.

mod browser;
mod people;
mod rights;
mod shape;
