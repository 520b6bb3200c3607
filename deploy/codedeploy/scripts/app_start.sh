#!/bin/sh
# Yours.
exec systemctl start app.service
