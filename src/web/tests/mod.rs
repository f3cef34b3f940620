//! The endpoints as callers see them.

mod browser;
mod faults;
mod people;
mod rights;
mod shape;
