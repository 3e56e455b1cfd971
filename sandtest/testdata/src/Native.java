import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.UUID;

public class Native {
	public static void main(String[] args) throws Exception {
		System.out.println("millis " + System.currentTimeMillis());
		System.out.println("nanos " + System.nanoTime());
		System.out.println("now " + java.time.Instant.now());
		System.out.println("CPUs " + Runtime.getRuntime().availableProcessors());
		System.out.println("~ uuid " + UUID.randomUUID());
		System.out.println("~ hash " + System.identityHashCode(new Object()));
		System.out.println("~ random " + new Random().nextLong() + " " + Math.random());
		System.out.println("~ set " + Set.of("a", "b", "c", "d", "e", "f"));
		Set<Object> objects = new HashSet<>();
		for (int i = 0; i < 4; i++) {
			objects.add(new Object());
		}
		System.out.println("~ objects " + objects);

		// Threads that are asked one after the other.
		for (int i = 0; i < 3; i++) {
			Thread t = new Thread(() -> System.out.println("~ thread " + UUID.randomUUID() + " "
				+ System.identityHashCode(new Object()) + " " + Math.random()));
			t.start();
			t.join();
		}
	}
}
