//! The store on MongoDB through the official driver.
