use Sys::Hostname;
use Time::HiRes;

print "time ", time, "\n";
printf "microseconds %.6f\n", Time::HiRes::time;
print "host ", hostname, "\n";
print "~ rand ", rand, "\n";
my %h = map { $_ => 1 } "a" .. "z";
print "~ keys ", join(" ", keys %h), "\n";
