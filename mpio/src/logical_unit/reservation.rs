//! Persistent reservations of a [`LogicalUnit`]; [`crate::reservation`] does the work.

use scsi::Nexus;
use scsi::reservation::{
    Capabilities, FullStatus, Registration, Reservation, ReservationKey, ReservationType,
};

use super::LogicalUnit;
use crate::clock::Clock;
use crate::reservation::{self, KeyCount, ReservationError};

impl<N: Nexus, C: Clock> LogicalUnit<N, C> {
    /// Registers every path with `key`, those that come later before they carry I/O. An earlier
    /// registration of these paths is replaced.
    ///
    /// # Errors
    /// When a usable path refuses: then those registered by this call are unregistered again, as
    /// far as they can be reached.
    pub async fn register(
        &self,
        key: ReservationKey,
        with: Registration,
    ) -> Result<(), ReservationError> {
        reservation::register(self.unit(), key, with).await
    }

    /// Takes up a registration that an earlier run of this host left, with the same session
    /// identifiers: paths without it are registered.
    ///
    /// # Errors
    /// [`ReservationError::NotRegistered`] when no nexus has the key.
    pub async fn adopt_registration(
        &self,
        key: ReservationKey,
        with: Registration,
    ) -> Result<(), ReservationError> {
        reservation::adopt(self.unit(), key, with).await
    }

    /// Takes the registration of every path away; a reservation that this unit holds is released
    /// first.
    ///
    /// # Errors
    /// As [`Self::release_reservation`]; [`ReservationError::NotRegistered`].
    pub async fn unregister(&self) -> Result<(), ReservationError> {
        reservation::unregister(self.unit()).await
    }

    /// Reserves the unit for its registered paths.
    ///
    /// # Errors
    /// [`ReservationError::NotRegistered`]; [`ReservationError::Conflict`] with the holder;
    /// [`ReservationError::OneNexusOnly`] for a type that would shut all paths but one out.
    pub async fn reserve(&self, kind: ReservationType) -> Result<(), ReservationError> {
        reservation::reserve(self.unit(), kind).await
    }

    /// Gives the reservation back; also when the path that holds it is away. Registrations stay.
    /// Without a reservation nothing happens.
    ///
    /// # Errors
    /// [`ReservationError::NotRegistered`]; [`ReservationError::Conflict`] when another host
    /// holds it.
    pub async fn release_reservation(&self) -> Result<(), ReservationError> {
        reservation::release(self.unit()).await
    }

    /// Takes all registrations and the reservation away, those of other hosts as well.
    ///
    /// # Errors
    /// [`ReservationError::NotRegistered`].
    pub async fn clear_reservations(&self) -> Result<(), ReservationError> {
        reservation::clear(self.unit()).await
    }

    /// Takes the registrations with key `victim` away, and the reservation over if one of them
    /// holds it; it becomes one of type `kind`. `abort` also ends the commands of those nexuses.
    ///
    /// # Errors
    /// [`ReservationError::NotRegistered`]; [`ReservationError::NoSuchKey`];
    /// [`ReservationError::Unknown`] when an abort got no answer and the victim is gone: whether
    /// its commands have ended is not known then.
    pub async fn preempt(
        &self,
        victim: ReservationKey,
        kind: ReservationType,
        abort: bool,
    ) -> Result<(), ReservationError> {
        reservation::preempt(self.unit(), victim, kind, abort).await
    }

    /// The key of this unit's paths, while they are registered.
    #[must_use]
    pub fn registration(&self) -> Option<ReservationKey> {
        self.unit().registered.key()
    }

    /// The registered keys, each once, in rising order (READ KEYS, SPC-4 §6.15.2).
    ///
    /// # Errors
    /// [`ReservationError::Unsupported`], [`ReservationError::NoPath`] and what a device may do.
    pub async fn registered_keys(&self) -> Result<Vec<KeyCount>, ReservationError> {
        reservation::counted_keys(self.unit()).await
    }

    /// The reservation, if there is one (READ RESERVATION, SPC-4 §6.15.3).
    ///
    /// # Errors
    /// As [`Self::registered_keys`].
    pub async fn reservation(&self) -> Result<Reservation, ReservationError> {
        reservation::reservation(self.unit()).await
    }

    /// Every registration with its I_T nexus (READ FULL STATUS, SPC-4 §6.15.5).
    ///
    /// # Errors
    /// As [`Self::registered_keys`].
    pub async fn reservation_status(&self) -> Result<FullStatus, ReservationError> {
        reservation::full_status(self.unit()).await
    }

    /// What the device knows of persistent reservations (REPORT CAPABILITIES, SPC-4 §6.15.4).
    ///
    /// # Errors
    /// As [`Self::registered_keys`].
    pub async fn reservation_capabilities(&self) -> Result<Capabilities, ReservationError> {
        reservation::capabilities(self.unit()).await
    }
}
