/**
 * Loaded before every test file. tap hands its loader to all that a test starts, by NODE_OPTIONS, so that it can write
 * down which files each process loads. Nothing here reads that, and the threads of a node and the commands that a test
 * starts would take three times as long to begin.
 */
delete process.env.NODE_OPTIONS;
