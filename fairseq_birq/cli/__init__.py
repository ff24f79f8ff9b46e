"""Console scripts: arguments in, one library call, readable errors out."""

import logging

# fairseq asks for tensorboardX in an import that none of these commands needs.
logging.getLogger("fairseq.tasks.text_to_speech").setLevel(logging.WARNING)
