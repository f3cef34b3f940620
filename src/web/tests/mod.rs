//! The endpoints as callers see them.

mod browser;
mod cached_callers;
mod change_page;
mod faults;
mod pages;
mod people;
mod rights;
mod shape;
