#!/bin/sh
# Ends all machines and removes all security groups that daskflow ever made in these regions of the account, whoever started them.
# It asks for nothing but the AWS command line: it works where daskflow is not installed.
#
#   deploy/remove-everything.sh eu-central-1 us-east-1
set -eu

if [ $# -eq 0 ]; then
    echo "usage: $0 REGION..." >&2
    exit 2
fi

for region in "$@"; do
    machines=$(aws ec2 describe-instances --region "$region" --output text \
        --filters Name=tag-key,Values=daskflow Name=instance-state-name,Values=pending,running,stopping,stopped \
        --query 'Reservations[].Instances[].InstanceId')
    if [ -n "$machines" ]; then
        # shellcheck disable=SC2086 # a word each
        aws ec2 terminate-instances --region "$region" --instance-ids $machines --output text
        # shellcheck disable=SC2086
        aws ec2 wait instance-terminated --region "$region" --instance-ids $machines
    fi
    volumes=$(aws ec2 describe-volumes --region "$region" --output text \
        --filters Name=tag-key,Values=daskflow Name=status,Values=available --query 'Volumes[].VolumeId')
    for volume in $volumes; do
        aws ec2 delete-volume --region "$region" --volume-id "$volume"
    done
    groups=$(aws ec2 describe-security-groups --region "$region" --output text \
        --filters Name=tag-key,Values=daskflow --query 'SecurityGroups[].GroupId')
    for group in $groups; do
        aws ec2 delete-security-group --region "$region" --group-id "$group" --output text
    done
    echo "$region: nothing of daskflow is left."
done
