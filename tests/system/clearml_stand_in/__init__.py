"""A stand-in for a ClearML server: what clearml_server.py starts, one concern a file.

    schemas     what each request may hold, by the official SDK's own JSON schemas
    wire        JSON read strictly, multipart bodies, the envelope of an answer
    records     requests as they came, and what was wrong with them
    store       projects, tasks, models, events and files
    query       the filters, pages and projections of the *.get_all calls
    auth        keys and tokens
    tasks, models, events        the endpoints
    files       the file server
    faults      what a test wants to go wrong
    listener    ports that close and open again
    server      all of it together
"""
