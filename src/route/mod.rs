//! Floor 1: the route of a request.

pub mod choice;
pub mod escape;
pub mod head;
mod node;
pub mod normalize;
pub mod own;
mod readings;
mod rule;
pub mod table;
#[cfg(test)]
mod test_kit;
#[cfg(test)]
mod tests;
