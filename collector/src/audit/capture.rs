//! Files that hold datagrams as they were received, with their arrival times.
