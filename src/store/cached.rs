//! Placeholder until the store lands.
use crate::model::access::Membership;
use crate::model::account::Account;
use crate::model::id::UserId;
use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::generations::Stamp;
use std::sync::Arc;
/// x
#[derive(Debug)]
pub struct Subject {
    /// x
    pub account: Arc<Account>,
    /// x
    pub memberships: Vec<Membership>,
}
/// x
#[derive(Debug)]
pub struct Subjects {}
impl Subjects {
    /// x
    pub fn new(_store: Arc<dyn Store>, _entries: u64) -> Self {
        todo!()
    }
    /// x
    pub async fn get(&self, _uid: &UserId) -> Result<Option<(Arc<Subject>, Stamp)>, StoreError> {
        todo!()
    }
}
