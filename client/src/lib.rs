//! A client of callpark that retries and resumes.
