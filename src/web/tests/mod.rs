//! The endpoints as callers see them.

mod people;
mod rights;
mod shape;
